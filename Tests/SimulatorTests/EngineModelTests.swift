import Base
import Strategy
import Testing

@testable import Simulator

@Suite struct EngineModelTests {
  /// Against values of the usual library functions, to 12 digits.
  @Test func mathematics() {
    #expect(abs(Mathematics.decay(1) - 0.367_879_441_171_442) < 1e-14)
    #expect(abs(Mathematics.decay(20) - 2.061_153_622_438_558e-9) < 1e-21)
    #expect(Mathematics.decay(0) == 1 && Mathematics.decay(1e6) == 0)
    #expect(abs(Mathematics.log(10) - 2.302_585_092_994_046) < 1e-12)
    #expect(abs(Mathematics.log(0.001) + 6.907_755_278_982_137) < 1e-12)
    #expect(abs(Mathematics.power(2, 0.5) - 1.414_213_562_373_095) < 1e-12)
    #expect(abs(Mathematics.power(1000, -0.99) - 0.001_071_519_305_237) < 1e-12)
  }

  @Test func noiseHasItsMeanAndDeviation() {
    var noise = Noise(seed: 1)
    let values = (0..<20_000).map { _ in noise.normal() }
    let mean = values.reduce(0, +) / 20_000
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 20_000
    #expect(abs(mean) < 0.03 && abs(variance - 1) < 0.05)
  }

  @Test func goodputKnowsLossAndTheLanesWindows() {
    var link = LinkModel(bytesPerSecond: 125e6, latencyMs: 10, loss: 0.0001, lanes: 1)
    // 1.22 × 1448 / (20 ms × 0.01): one lane carries 8.8 MB/s.
    #expect(abs(link.goodput - 8_832_800) < 1000)
    link.lanes = 100
    #expect(link.goodput == 125e6 * 0.9999)
    link.competing = LinkModel.Competing(share: 0.5, onMs: 100, offMs: 300)
    #expect(link.freeShare(atMs: 50, phaseMs: 0) == 0.5)
    #expect(link.freeShare(atMs: 150, phaseMs: 0) == 1)
    #expect(link.freeShare(atMs: 350, phaseMs: 100) == 0.5)
  }

  @Test func presetsKeepTheSizeOfRAM() {
    let memory = GuestModel.Memory(ram: .mebibytes(64), zeroPermille: 500)
    let small = ByteCount.mebibytes(16)
    for guest in [
      GuestModel.uniform(memory, workingSet: small, pagesPerSecond: 1000),
      .hotSet(memory, workingSet: small, pagesPerSecond: 1000),
      .zipf(memory, workingSet: small, pagesPerSecond: 1000),
      .uniform(memory, workingSet: .mebibytes(128), pagesPerSecond: 1000),
    ] {
      #expect(abs(guest.ramPages - 16_384) < 0.001)
      #expect(abs(guest.groups.reduce(0) { $0 + $1.writesPerSecond } - 1000) < 0.001)
    }
    let zipf = GuestModel.zipf(memory, workingSet: small, pagesPerSecond: 1000)
    let intensities = zipf.groups.dropLast(2).map { $0.writesPerSecond / $0.pages }
    #expect(intensities == intensities.sorted(by: >))
  }

  @Test func phasesRepeat() {
    let guest = GuestModel(groups: [PageGroup(pages: 10, writesPerSecond: 100)])
      .withPhases(cycleMs: 1000, quiet: 0.25)
    #expect(guest.writesPerPage(0, atMs: 499) == 10)
    #expect(guest.writesPerPage(0, atMs: 500) == 2.5)
    #expect(guest.writesPerPage(0, atMs: 2400) == 10)
  }

  /// What counts say and what pages do is the same thing.
  @Test func countsAgreeWithPages() {
    let groups = [
      PageGroup(pages: 2000, writesPerSecond: 8000), PageGroup(pages: 3000, writesPerSecond: 900),
      PageGroup(pages: 1000, writesPerSecond: 500, pattern: .sweep), PageGroup(pages: 2000),
    ]
    var fluid = FluidMemory(GuestModel(groups: groups))
    var exact = ExactMemory(GuestModel(groups: groups))
    var (a, b) = (Noise(seed: 1), Noise(seed: 2))
    for round in 0..<24 {
      fluid.run(ms: 250, atMs: 0, speed: 1, noise: &a)
      exact.run(ms: 250, atMs: 0, speed: 1, noise: &b)
      _ = fluid.send(bytes: 1e6, scanPermille: 500, holdFrom: 7, noise: &a)
      _ = exact.send(bytes: 1e6, scanPermille: 500, holdFrom: 7, noise: &b)
      let (counted, seen) = (fluid.beginCollect(noise: &a), exact.beginCollect(noise: &b))
      #expect(abs(counted.dirtied - seen.dirtied) < 150, "round \(round)")
      #expect(abs(counted.first - seen.first) < 200, "round \(round)")
      #expect(abs(fluid.finishCollect() - exact.finishCollect()) < 200, "round \(round)")
      #expect(abs(fluid.freshPages - exact.freshPages) < 250, "round \(round)")
      for heat in 0...8 {
        #expect(abs(fluid.owedByHeat[heat] - exact.owedByHeat[heat]) < 250, "round \(round)")
      }
    }
    #expect(abs(fluid.supersededPages / exact.supersededPages - 1) < 0.05)
    #expect(fluid.violation(isFinished: false) == nil && exact.violation(isFinished: false) == nil)
    #expect(fluid.violation(isFinished: true) != nil && exact.violation(isFinished: true) != nil)
  }

  @Test func aPullEndsAndHotPagesCostFaults() {
    let link = LinkModel(bytesPerSecond: 125e6)
    func pull(writes: Double) -> (ms: Double, lost: Double, faults: Double) {
      let guest = GuestModel(groups: [PageGroup(pages: 30_000, writesPerSecond: writes)])
      var model = PullModel([30_000], SimulationSetup(.dsm, guest, link))
      var (ms, lost) = (0.0, 0.0)
      while !model.isDone, ms < 100_000 {
        lost += model.step(ms: 50, bytesPerSecond: link.goodput)
        ms += 50
      }
      return (ms - model.unusedMs, lost, model.faults)
    }
    let (idle, busy) = (pull(writes: 0), pull(writes: 50_000))
    #expect(abs(idle.ms - 30_000 * 4120 / 125e3) < 20 && idle.faults == 0 && idle.lost == 0)
    #expect(busy.faults > 1000 && busy.lost > 200 && busy.lost < busy.ms)
  }

  /// Four fifths of the touches hit a fifth of the pages. They come first, so the guest loses less time than one that
  /// touches all of them alike, and most of it at the beginning.
  @Test func hotPagesComeFirst() {
    let link = LinkModel(bytesPerSecond: 125e6)
    func pull(_ groups: [PageGroup]) -> (lost: Double, faults: Double, lostAtFirst: Double) {
      let setup = SimulationSetup(.dsm, GuestModel(groups: groups), link)
      var model = PullModel(groups.map(\.pages), setup)
      var (lost, atFirst, steps) = (0.0, 0.0, 0)
      while !model.isDone, steps < 1000 {
        lost += model.step(ms: 50, bytesPerSecond: link.goodput)
        steps += 1
        if steps == 5 { atFirst = lost }
      }
      return (lost, model.faults, atFirst)
    }
    let even = pull([PageGroup(pages: 30_000, writesPerSecond: 5000)])
    let hot = pull([
      PageGroup(pages: 24_000, writesPerSecond: 1000),
      PageGroup(pages: 6000, writesPerSecond: 4000),
    ])
    #expect(hot.lost < 0.7 * even.lost && hot.faults < 0.7 * even.faults, "\(hot), \(even)")
    #expect(hot.lostAtFirst > 0.4 * hot.lost, "\(hot)")
  }
}
