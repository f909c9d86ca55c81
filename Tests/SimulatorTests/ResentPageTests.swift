import Base
import Strategy
import Testing

@testable import Simulator

/// Pages that cost less once the destination has a version of them, and how a link is shared out between pages that cost
/// different.
@Suite struct ResentPageTests {
  static func guest(resent: PagePrice?) -> GuestModel {
    var groups = [
      PageGroup(pages: 2000, writesPerSecond: 8000), PageGroup(pages: 3000, writesPerSecond: 900),
      PageGroup(pages: 2000),
    ]
    for index in groups.indices { groups[index].resent = resent }
    return GuestModel(groups: groups)
  }

  @Test func theShareIsOfPages() {
    let (scan, dirty) = (
      StreamLoad(pages: 100, bytes: 1000), StreamLoad(pages: 300, bytes: 27_000)
    )
    // A page of 10 bytes for each of 90.
    #expect(abs(FluidMemory.scanShare(500, scan: scan, dirty: dirty) - 0.1) < 1e-9)
    #expect(FluidMemory.scanShare(1000, scan: scan, dirty: dirty) == 1)
    #expect(FluidMemory.scanShare(0, scan: scan, dirty: dirty) == 0)
    #expect(FluidMemory.scanShare(500, scan: scan, dirty: StreamLoad()) == 0.5)
    #expect(FluidMemory.scanShare(300, scan: StreamLoad(), dirty: dirty) == 0.3)
    var random = SplitMix64(seed: 7)
    for _ in 0..<200 {
      let permille = UInt64.random(in: 1...999, using: &random)
      func load() -> StreamLoad {
        let pages = Double.random(in: 1...1e6, using: &random)
        return StreamLoad(pages: pages, bytes: pages * .random(in: 1...5000, using: &random))
      }
      let (scan, dirty) = (load(), load())
      let share = FluidMemory.scanShare(permille, scan: scan, dirty: dirty)
      let fromScan = share / (scan.bytes / scan.pages)
      let fromDirty = (1 - share) / (dirty.bytes / dirty.pages)
      #expect(abs(fromScan / (fromScan + fromDirty) * 1000 - Double(permille)) < 1e-6)
    }
  }

  /// Counts and pages agree on what was sent for the first time and what again.
  @Test(arguments: [200, 1000, 4120] as [Double]) func countsAgreeWithPages(bytes: Double) {
    let guest = Self.guest(resent: PagePrice(bytes: bytes))
    var (fluid, exact) = (FluidMemory(guest), ExactMemory(guest))
    var (a, b) = (Noise(seed: 1), Noise(seed: 2))
    for round in 0..<24 {
      fluid.run(ms: 250, atMs: 0, speed: 1, noise: &a)
      exact.run(ms: 250, atMs: 0, speed: 1, noise: &b)
      _ = fluid.send(bytes: 2e6, scanPermille: 500, holdFrom: 9, noise: &a)
      _ = exact.send(bytes: 2e6, scanPermille: 500, holdFrom: 9, noise: &b)
      _ = (fluid.beginCollect(noise: &a), exact.beginCollect(noise: &b))
      _ = (fluid.finishCollect(), exact.finishCollect())
      #expect(fluid.violation(isFinished: false) == nil, "round \(round)")
    }
    #expect(abs(fluid.sentBytes / exact.sentBytes - 1) < 0.1)
    #expect(abs(fluid.sentPages / exact.sentPages - 1) < 0.1)
    #expect(abs(fluid.owedBytes - exact.owedBytes) < 0.1 * guest.wireBytes)
    // All went once, and some again for what that costs.
    let once = min(exact.sentPages, guest.ramPages)
    #expect(exact.sentBytes <= once * 4120 + (exact.sentPages - once) * max(bytes, 4120))
    if bytes < 4120 { #expect(exact.sentBytes < exact.sentPages * 4120 * 0.9) }
  }

  /// The same guest, and everything that is sent again is cheap: less goes, in no more time, and nothing is lost.
  @Test(arguments: UInt64(0)..<40) func movesEndAllTheSame(seed: UInt64) {
    var dear = RandomSetups.small(seed: seed)
    dear.constraints.withinMs = nil
    var cheap = dear
    for index in cheap.guest.groups.indices where !cheap.guest.groups[index].isZero {
      cheap.guest.groups[index].resent = PagePrice(bytes: 300)
    }
    for outcome in [Simulation.run(cheap, seed: seed), Simulation.runExact(cheap, seed: seed)] {
      #expect(outcome.violation == nil, "seed \(seed), \(dear.strategy): \(outcome)")
    }
  }

  @Test(arguments: [.precopy, .timebound] as [StrategyName])
  func whatIsSentAgainCostsLess(name: StrategyName) {
    func run(_ resent: PagePrice?) -> SimulationOutcome {
      let link = LinkModel(bytesPerSecond: 5e6, jitter: 0)
      return Simulation.run(SimulationSetup(name, Self.guest(resent: resent), link), seed: 3)
    }
    let (dear, cheap) = (run(nil), run(PagePrice(bytes: 200)))
    #expect(cheap.isCompleted && cheap.wireBytes < dear.wireBytes * 0.9, "\(cheap), \(dear)")
    #expect(cheap.totalMs <= dear.totalMs, "\(cheap), \(dear)")
    // What is foretold of the pause knows what is owed, and what that costs.
    let (pause, foretold) = (cheap.downtimeMs ?? 0, cheap.forecastDowntimeMs ?? 0)
    #expect(abs(foretold - pause) < 0.5 * pause, "\(foretold), \(pause)")
  }

  /// A scan through zeros beside pages that are sent again and again, as of a kernel with much free memory: zeros are not
  /// what the link is shared for. Agents that counted them sent 150,000 pages of 51,000, and took twice as long.
  @Test func aScanThroughZerosIsNotHeldUp() {
    func total(zeros: Double) -> Double {
      let guest = GuestModel(groups: [
        PageGroup(pages: 20_000, writesPerSecond: 40_000), PageGroup(pages: 30_000),
        PageGroup(pages: zeros, wireBytes: GuestModel.zeroBytes),
      ])
      var setup = SimulationSetup(.timebound, guest, LinkModel(bytesPerSecond: 25e6, jitter: 0))
      setup.drainRate = 1e11
      return Simulation.run(setup, seed: 1).totalMs
    }
    // If 80,000 more pages of the scan were as many more that are sent beside it: 13 s.
    let (few, many) = (total(zeros: 0), total(zeros: 80_000))
    #expect((0..<1000).contains(many - few), "\(few), \(many)")
  }

  @Test func writtenPagesHaveTheirOwnPrice() {
    var profile = GuestProfile(
      ramPages: 100_000, zeroPermille: 200, pageBytes: 2000,
      dirtyCurve: [.init(windowMs: 1000, pages: 15_000), .init(windowMs: 4000, pages: 20_000)])
    let plain = profile.model
    profile.written = PagePrice(bytes: 4000, us: 3)
    profile.resent = PagePrice(bytes: 100)
    let model = profile.model
    // The mean over all is what was measured.
    #expect(abs(model.wireBytes / plain.wireBytes - 1) < 1e-6)
    let busy = model.groups.filter { $0.writesPerSecond > 0 }
    #expect(!busy.isEmpty && busy.allSatisfy { $0.wireBytes == 4000 && $0.resentBytes == 100 })
    #expect(busy.allSatisfy { $0.processorUs == 3 })
    let rest = model.groups.filter { $0.writesPerSecond == 0 && !$0.isZero }
    #expect(rest.count == 1 && rest.allSatisfy { $0.wireBytes < 2000 && $0.resent == nil })
    // Nonsense stays within what a page can cost.
    for bytes in [1, 1e6] {
      profile.written = PagePrice(bytes: bytes)
      let costs = profile.model.groups.filter { $0.writesPerSecond == 0 && !$0.isZero }
      #expect(costs.allSatisfy { (56...4120).contains($0.wireBytes) }, "\(costs)")
    }
  }
}
