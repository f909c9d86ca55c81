import Base
import Testing

@testable import Simulator

@Suite struct FleetTests {
  @Test func sharesOfTwoLinksAreMaxMinFair() {
    // The classic line: one flow over both links, one over each.
    let shares = FairShares(capacities: [10, 4])
    #expect(shares.divide(paths: [[0, 1], [0], [1]], limits: [99, 99, 99]) == [2, 8, 2])
    #expect(shares.divide(paths: [[0, 1], [0], [1]], limits: [1, 5, 99]) == [1, 5, 3])
    #expect(shares.divide(paths: [], limits: []) == [])
  }

  /// Nothing carries more than it can, and every flow is held back by its limit or by a full link on which
  /// nobody has more: that is what max-min fair means.
  @Test(arguments: UInt64(1)...100) func everyFlowHasABottleneck(seed: UInt64) {
    var noise = Noise(seed: seed)
    let capacities = (0..<8).map { _ in 1 + noise.uniform() * 99 }
    let paths = (0..<30).map { _ in
      Array(Set((0..<3).map { _ in Int(noise.uniform() * 8) })).sorted()
    }
    let limits = paths.map { _ in noise.uniform() * 40 }
    let rates = FairShares(capacities: capacities).divide(paths: paths, limits: limits)
    var used = [Double](repeating: 0, count: 8)
    for (flow, path) in paths.enumerated() { for link in path { used[link] += rates[flow] } }
    for link in 0..<8 { #expect(used[link] <= capacities[link] + 1e-6, "seed \(seed)") }
    for (flow, path) in paths.enumerated() {
      let isLimited = rates[flow] >= limits[flow] - 1e-6
      let hasBottleneck = path.contains { link in
        used[link] >= capacities[link] - 1e-6
          && paths.indices.allSatisfy {
            !paths[$0].contains(link) || rates[$0] <= rates[flow] + 1e-6
          }
      }
      #expect(isLimited || hasBottleneck, "seed \(seed), flow \(flow)")
    }
  }

  private func fleet(moves: Int, hosts: Int, totalMax: Int = .max) throws -> FleetSetup {
    let rate = try #require(ByteRate(parsing: "10Gbit"))
    return FleetSetup(
      moves: moves, hosts: hosts, hostsPerRack: 4, hostRate: rate, rackRate: rate,
      totalMax: totalMax,
      ramLeast: .mebibytes(512), ramMost: .mebibytes(2048))
  }

  @Test func aFleetEndsAndKeepsItsLimits() throws {
    let setup = try fleet(moves: 60, hosts: 8, totalMax: 10)
    let outcome = FleetRun.run(setup, seed: 1)
    #expect(outcome.violation == nil && outcome.outcomes.count == 60)
    #expect(outcome.completedCount == 60 && outcome.concurrentMax == 10)
    #expect(outcome.waitedMs.max()! > 0)
    #expect(outcome == FleetRun.run(setup, seed: 1))
  }

  /// A data centre is emptied: 10,000 guests.
  @Test func aFleetOfTenThousandEnds() throws {
    var setup = try fleet(moves: 10_000, hosts: 1000)
    // Hosts' own links are what is short: fewer ticks, and the test takes seconds.
    setup.rackRate *= 4
    let outcome = FleetRun.run(setup, seed: 1)
    #expect(outcome.violation == nil && outcome.completedCount == 10_000)
    #expect(outcome.concurrentMax > 1000)
  }

  @Test func sharedLinksMakeAFleetSlower() throws {
    var wide = try fleet(moves: 32, hosts: 8)
    wide.rackRate *= 8
    let (narrow, free) = (
      FleetRun.run(try fleet(moves: 32, hosts: 8), seed: 1), FleetRun.run(wide, seed: 1)
    )
    #expect(narrow.totalMs > 1.2 * free.totalMs)
    #expect(narrow.rackBusyShare > 0.3 && free.rackBusyShare == 0)
    // Two racks of 10 Gbit/s carry it: no faster than their capacity.
    #expect(narrow.wireBytes / (narrow.totalMs / 1000) <= 2 * 1.25e9)
  }
}
