import Base
import Strategy
import Testing

@testable import Simulator

@Suite struct ProcessorCostsTests {
  private typealias Move = ProcessorCosts.Move

  /// Most of it at the destination already; 10 µs between two such pages, or none.
  private func guest(knownUs: Double, sent: Double = 4000) -> GuestModel {
    GuestModel(groups: [
      PageGroup(pages: 100_000, wireBytes: GuestModel.namedBytes, processorUs: knownUs),
      PageGroup(pages: sent, writesPerSecond: 200),
    ])
  }

  /// 100,000 names are nothing for the link, and a second for processors.
  @Test(arguments: [.precopy, .hotpages, .adaptive, .timebound] as [StrategyName])
  func slowProcessorsHoldTheLinkUp(name: StrategyName) {
    let link = LinkModel(bytesPerSecond: 125e6, jitter: 0)
    func outcome(_ knownUs: Double) -> SimulationOutcome {
      var setup = SimulationSetup(name, guest(knownUs: knownUs), link)
      // QEMU's first pass is no part of this.
      setup.drainRate = 1e11
      return Simulation.run(setup, seed: 3)
    }
    let (free, slow) = (outcome(0), outcome(10))
    #expect((800...1300).contains(slow.totalMs - free.totalMs), "\(slow.totalMs), \(free.totalMs)")
    // Time, and no bytes.
    #expect(abs(slow.wireBytes / free.wireBytes - 1) < 0.2, "\(slow.wireBytes), \(free.wireBytes)")
    // Where the link is slower than that they don't show.
    let narrow = LinkModel(bytesPerSecond: 4e6, jitter: 0)
    let times = [0.0, 10.0].map {
      Simulation.run(SimulationSetup(name, guest(knownUs: $0), narrow), seed: 3).totalMs
    }
    #expect(times[0] == times[1])
  }

  @Test(arguments: 1...5 as ClosedRange<UInt64>) func countsAgreeWithPages(seed: UInt64) {
    let groups = [
      PageGroup(pages: 3000, wireBytes: GuestModel.heldBytes, processorUs: 400),
      PageGroup(pages: 1000, writesPerSecond: 300, processorUs: 50),
    ]
    let setup = SimulationSetup(
      .hotpages, GuestModel(groups: groups), LinkModel(bytesPerSecond: 10e6))
    let (fluid, exact) = (Simulation.run(setup, seed: seed), Simulation.runExact(setup, seed: seed))
    #expect(fluid.violation == nil && exact.violation == nil)
    // 3000 pages of 400 µs, and 1000 of 4120 bytes at 10 MB/s, with what is written meanwhile.
    for outcome in [fluid, exact] { #expect((1550...2200).contains(outcome.totalMs), "\(outcome)") }
    #expect(abs(fluid.wireBytes / exact.wireBytes - 1) < 0.15)
  }

  @Test func aPullWaitsForProcessorsToo() {
    let link = LinkModel(bytesPerSecond: 125e6)
    let guest = GuestModel(groups: [
      PageGroup(pages: 30_000, wireBytes: GuestModel.namedBytes, processorUs: 20)
    ])
    var model = PullModel([30_000], SimulationSetup(.dsm, guest, link))
    var ms = 0.0
    while !model.isDone, ms < 100_000 {
      _ = model.step(ms: 50, bytesPerSecond: link.goodput)
      ms += 50
    }
    #expect(abs(ms - model.unusedMs - 600) < 20)
    #expect(abs(model.sentBytes - 30_000 * GuestModel.namedBytes) < 10_000)
  }

  /// The slower host counts, and threads share the source's part.
  @Test func theSlowerHostCounts() {
    var costs = ProcessorCosts(threads: 4, packNs: 20_000, nameNs: 8000)
    #expect(costs.knownUs == 2 && costs.price(bytes: 9, packNs: 20_000).us == 5)
    costs.destinationNs = 15_000
    #expect(costs.knownUs == 15)
    #expect(ProcessorCosts().knownUs == 0 && ProcessorCosts(threads: 0).threads == 1)
  }

  /// Who packs slower than the link carries pages as they are does not pack, unless told to.
  @Test func packingHasToPay() {
    let costs = ProcessorCosts(threads: 1)
    let lz4 = costs.price(bytes: 2000, packNs: 10_000)
    #expect(lz4 == PagePrice(bytes: 2000, us: 10))
    func choose(_ ways: [PagePrice], _ rate: Double, isChosen: Bool = false) -> Int? {
      ProcessorCosts.choose(ways, bytesPerSecond: rate, isChosen: isChosen)
    }
    // A page as it is takes 33 µs at 125 MB/s, and 3.3 at 1.25 GB/s.
    #expect(choose([lz4], 125e6) == 0 && choose([lz4], 1.25e9) == nil)
    #expect(choose([lz4], 1.25e9, isChosen: true) == 0 && choose([], 125e6) == nil)
    #expect(choose([costs.price(bytes: 2000, packNs: nil)], 1e12) == 0)
    // zstd takes 20 µs: 80 µs of a link of 25 MB/s are 40 µs less, 16 of one of 125 MB/s nothing.
    let zstd = costs.price(bytes: 1000, packNs: 20_000)
    #expect(choose([lz4, zstd], 25e6) == 1 && choose([lz4, zstd], 125e6) == 0)
    #expect(choose([zstd], 125e6) == 0)
    // A percent is not worth it.
    #expect(choose([lz4, costs.price(bytes: 1980, packNs: 10_000)], 25e6) == 0)
  }

  @Test func theDestinationsTimeIsWhatNothingElseExplains() {
    var costs = ProcessorCosts(threads: 2)
    // 200,000 pages by name (11.2 MB), 12.5 MB of others at 25 MB/s, 300 ms fixed: 4200 ms are left of 5 s.
    let slow = Move(knownPages: 200_000, wireBytes: 23_700_000, encodeMs: 2000, totalMs: 5000)
    costs.learn(from: [slow], bytesPerSecond: 25e6, fixedMs: 300)
    #expect(costs.destinationNs == 21_000)
    // The source's two threads took as long: nothing says that the destination did.
    var busy = slow
    busy.encodeMs = 8000
    costs.learn(from: [busy], bytesPerSecond: 25e6, fixedMs: 300)
    #expect(costs.destinationNs == nil)
    // Nor where the link was full.
    costs.learn(from: [slow], bytesPerSecond: 5e6, fixedMs: 300)
    #expect(costs.destinationNs == nil)
    // One that was held up among several does not count.
    var heldUp = slow
    heldUp.totalMs = 60_000
    costs.learn(from: [heldUp, slow, slow], bytesPerSecond: 25e6, fixedMs: 300)
    #expect(costs.destinationNs == 21_000)
    costs.learn(from: [], bytesPerSecond: 25e6, fixedMs: 300)
    #expect(costs.destinationNs == nil)
  }

  @Test func movesThatMakeNoSenseDoNotTrap() {
    var costs = ProcessorCosts()
    let numbers: [UInt64] = [0, 1, .max]
    for known in numbers {
      for wire in numbers {
        for total in numbers {
          let move = Move(knownPages: known, wireBytes: wire, encodeMs: total, totalMs: total)
          for rate in [0.0, 1, 1e18] {
            costs.learn(from: [move, move], bytesPerSecond: rate, fixedMs: 300)
            #expect(costs.knownUs >= 0 && costs.knownUs.isFinite)
          }
        }
      }
    }
  }
}
