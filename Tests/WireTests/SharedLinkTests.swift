import Base
import Testing

@testable import Wire

@Suite struct MaxMinSharesTests {
  @Test func whatOneLeavesTheOthersGet() {
    #expect(MaxMinShares.divide(100, among: [nil, nil]) == [50, 50])
    #expect(MaxMinShares.divide(100, among: [10, nil, nil]) == [10, 45, 45])
    #expect(MaxMinShares.divide(90, among: [nil, 40, 10]) == [40, 40, 10])
    #expect(MaxMinShares.divide(100, among: [10, 20]) == [45, 55])
    #expect(MaxMinShares.divide(100, among: []) == [])
  }

  @Test(arguments: UInt64(1)...200) func neverMoreThanThereIs(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let count = Int.random(in: 1...20, using: &random)
    let capacity = UInt64.random(in: 0...1_000_000, using: &random)
    let demands = (0..<count).map { _ in
      Bool.random(using: &random) ? nil : UInt64.random(in: 0...200_000, using: &random)
    }
    let shares = MaxMinShares.divide(capacity, among: demands)
    let sum = shares.reduce(0, +)
    #expect(sum <= capacity && capacity - sum <= UInt64(count) * 2, "seed \(seed)")
    // Max-min: one that got less than it wants got no less than any other.
    for (demand, share) in zip(demands, shares) where share < demand ?? .max {
      #expect(shares.allSatisfy { $0 <= share + UInt64(count) }, "seed \(seed)")
    }
  }
}

@Suite struct SharedLinkTests {
  /// Members that send batches for `seconds`, each lane as fast as it may; bytes sent by each.
  static func run(
    _ link: inout SharedLink, lanes: [Int], limits: [UInt64?], seconds: UInt64
  ) -> [UInt64] {
    let batch: UInt64 = 256 << 10
    let members = lanes.map { _ in link.join(nowUs: 0) }
    var sent = [UInt64](repeating: 0, count: lanes.count)
    // The instants at which each lane is ready for its next batch.
    var ready = zip(members.indices, lanes).flatMap { index, count in
      (0..<count).map { _ in (at: UInt64(0), index: index) }
    }
    while let next = ready.indices.min(by: { ready[$0].at < ready[$1].at }),
      ready[next].at < seconds * 1_000_000
    {
      let (now, index) = ready[next]
      var delay = link.take(batch, member: members[index], nowUs: now)
      // One that something else holds up sends no faster than that.
      if let limit = limits[index] {
        delay = max(delay, batch * UInt64(lanes[index]) * 1_000_000 / limit)
      }
      sent[index] += batch
      ready[next].at = now + max(delay, 1)
    }
    return sent
  }

  @Test func lanesDoNotBuyBandwidth() {
    var link = SharedLink(rate: ByteRate(parsing: "100MB/s"), nowUs: 0)
    let sent = Self.run(&link, lanes: [1, 16], limits: [nil, nil], seconds: 10)
    #expect((950_000_000...1_060_000_000).contains(sent[0] + sent[1]))
    #expect(sent.allSatisfy { (450_000_000...550_000_000).contains($0) }, "\(sent)")
  }

  @Test func whatASlowOneLeavesTheOthersUse() {
    var link = SharedLink(rate: ByteRate(parsing: "100MB/s"), nowUs: 0)
    let sent = Self.run(&link, lanes: [4, 4, 4], limits: [10_000_000, nil, nil], seconds: 10)
    #expect((900_000_000...1_060_000_000).contains(sent.reduce(0, +)), "\(sent)")
    #expect((90_000_000...110_000_000).contains(sent[0]))
    #expect(sent[1] > 380_000_000 && sent[2] > 380_000_000, "\(sent)")
  }

  @Test func theLastOneGetsItAll() {
    var link = SharedLink(rate: ByteRate(parsing: "100MB/s"), nowUs: 0)
    let (first, second) = (link.join(nowUs: 0), link.join(nowUs: 0))
    #expect(link.share(of: first)?.bytesPerSecond == 50_000_000)
    link.leave(second, nowUs: 1000)
    #expect(link.share(of: first)?.bytesPerSecond == 100_000_000)
    #expect(link.take(1 << 30, member: second, nowUs: 2000) == 0)
    #expect(link.memberCount == 1)
  }

  @Test func aNewRateHoldsAtOnce() {
    var link = SharedLink(rate: nil, nowUs: 0)
    let member = link.join(nowUs: 0)
    #expect(link.take(1 << 40, member: member, nowUs: 0) == 0)
    link.setRate(ByteRate(parsing: "10MB/s"), nowUs: 1_000_000)
    #expect(link.share(of: member)?.bytesPerSecond == 10_000_000)
    #expect(link.take(100_000_000, member: member, nowUs: 1_000_000) > 9_000_000)
    link.setRate(nil, nowUs: 2_000_000)
    #expect(link.take(1 << 40, member: member, nowUs: 2_000_000) == 0)
  }
}
