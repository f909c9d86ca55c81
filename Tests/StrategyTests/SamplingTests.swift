import Base
import Strategy
import Testing

/// A guest whose pages are marked by how often each was written.
private struct WrittenGuest {
  var random: SplitMix64
  var versions: [UInt64]

  init(pages: Int, zero: Int = 0, seed: UInt64) {
    random = SplitMix64(seed: seed)
    versions = (0..<pages).map { $0 < pages - zero ? 1 : 0 }
  }

  mutating func write(_ count: Int, to pages: Range<Int>) {
    for _ in 0..<count { versions[Int.random(in: pages, using: &random)] += 1 }
  }

  func marks(_ sample: PageSample) -> [UInt64] { sample.pages.map { versions[Int($0)] } }
}

@Suite struct SamplingTests {
  @Test(arguments: UInt64(0)..<20) func oneOfEachNeighbourhood(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let ram = UInt64.random(in: 1...1 << 36, using: &random)
    let count = Int.random(in: 1...2000, using: &random)
    let sample = PageSample(of: ram, count: count, using: &random)
    #expect(sample.pages.count == min(count, Int(ram)))
    #expect(zip(sample.pages, sample.pages.dropFirst()).allSatisfy { $0 < $1 })
    for (number, page) in sample.pages.enumerated() {
      #expect(abs(Double(page) / Double(ram) * Double(count) - Double(number) - 0.5) <= 0.5 + 1e-6)
    }
    #expect(PageSample(of: 3, count: 9, using: &random).pages == [0, 1, 2])
    #expect(PageSample(of: 0, count: 9, using: &random).pages.isEmpty)
  }

  /// Nine of ten samples hold the truth; a sample of everything is no estimate.
  @Test(arguments: [3, 30, 300, 1500] as [UInt64]) func intervalsHoldTheTruth(dirtied: UInt64) {
    var random = SplitMix64(seed: dirtied)
    let (ram, sampled) = (UInt64(20_000), UInt64(2000))
    var held = 0
    for _ in 0..<200 {
      let found = (0..<sampled).count { _ in UInt64.random(in: 0..<ram, using: &random) < dirtied }
      let estimate = PageEstimate(found: UInt64(found), of: sampled, ramPages: ram)
      if (estimate.lowPages...estimate.highPages).contains(dirtied) { held += 1 }
    }
    #expect((168...200).contains(held), "\(held) of 200")
    let all = PageEstimate(found: 7, of: ram, ramPages: ram)
    #expect((all.lowPages, all.pages, all.highPages) == (7, 7, 7))
    let none = PageEstimate(found: 0, of: sampled, ramPages: ram)
    #expect(none.pages == 0 && none.lowPages == 0 && (20...40).contains(none.highPages))
    #expect(PageEstimate(found: 0, of: 0, ramPages: ram).highPages == ram)
    let most = PageEstimate(found: 1 << 20, of: 1 << 20, ramPages: 1 << 36)
    #expect(most.pages == 1 << 36 && most.highPages == 1 << 36 && most.lowPages < 1 << 36)
  }

  /// 3,000 writes an interval to 2,000 of 40,000 pages, and 200 to 10,000 others.
  @Test(arguments: UInt64(1)...8) func theCurveIsTheGuests(seed: UInt64) {
    var guest = WrittenGuest(pages: 40_000, zero: 8000, seed: seed)
    let sample = PageSample(of: 40_000, count: 8000, using: &guest.random)
    var history = ChangeHistory(sample)
    for look in 0...16 {
      if look > 0 {
        guest.write(3000, to: 0..<2000)
        guest.write(200, to: 2000..<12_000)
      }
      history.look(guest.marks(sample), atMs: 1000 + UInt64(look) * 250)
    }
    let curve = history.curve.points
    #expect(curve.map(\.windowMs) == [250, 500, 1000, 2000, 4000])
    for (point, writes) in zip(curve, [1.0, 2, 4, 8, 16]) {
      let truth =
        2000 * (1 - exponential(-1.5 * writes)) + 10_000 * (1 - exponential(-0.02 * writes))
      // Neighbours have the same rate here, so that the error is below that of a free draw.
      let pages = Double(point.pages.pages)
      #expect(abs(pages / truth - 1) < 0.12, "\(point) for \(truth), seed \(seed)")
      #expect(point.pages.lowPages <= point.pages.pages)
      #expect(point.pages.highPages >= point.pages.pages)
    }
    #expect(zip(curve, curve.dropFirst()).allSatisfy { $0.pages.pages <= $1.pages.pages })
    #expect((7900...8100).contains(history.zeroPages.pages))
  }

  /// Whatever happens after the sample, a guest that goes on as before stays below the bound.
  @Test(arguments: UInt64(1)...8) func theBoundHolds(seed: UInt64) throws {
    var guest = WrittenGuest(pages: 40_000, seed: seed)
    let sample = PageSample(of: 40_000, count: 4000, using: &guest.random)
    var history = ChangeHistory(sample)
    let before = guest.versions
    history.look(guest.marks(sample), atMs: 0)
    #expect(history.bound == nil)
    let hot = Int.random(in: 100...5000, using: &guest.random)
    let sweep = Int.random(in: 0...300, using: &guest.random)
    var swept = 6000
    for step in 1...80 {
      guest.write(400, to: 0..<hot)
      for _ in 0..<sweep {
        guest.versions[swept] += 1
        swept = swept == 39_999 ? 6000 : swept + 1
      }
      guard step <= 4 else { continue }
      history.look(guest.marks(sample), atMs: UInt64(step) * 125)
    }
    let dirtied = zip(before, guest.versions).count { $0 != $1 }
    let bound = try #require(history.bound)
    #expect(bound.pages(withinMs: 10_000) >= dirtied, "\(bound) for \(dirtied)")
    #expect(bound.pages(withinMs: 0) == bound.pages(withinMs: 500))
    #expect(bound.pages(withinMs: .max) >= bound.pages(withinMs: 10_000))
  }

  @Test func aQuietGuestHasNoCurve() throws {
    var random = SplitMix64(seed: 1)
    let sample = PageSample(of: 1000, count: 1000, using: &random)
    var history = ChangeHistory(sample)
    for look in 0..<70 {
      history.look([UInt64](repeating: 3, count: 1000), atMs: UInt64(look))
    }
    history.look([], atMs: 99)
    #expect(history.intervals == ChangeHistory.intervalsMax)
    #expect(history.curve.points.count == 7)
    #expect(history.curve.points.allSatisfy { $0.pages.highPages == 0 })
    #expect(history.zeroPages.pages == 0)
    #expect(try #require(history.bound).pages(withinMs: 1 << 40) == 0)
  }

  /// A guest with its zeros in one place: what is left of a scan is not what its mean says.
  @Test(arguments: UInt64(1)...8) func aProfileKnowsWhereTheZerosAre(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    let sample = PageSample(of: 40_000, count: 1000, using: &random)
    let isZero = sample.pages.map { (20_000..<36_000).contains($0) }
    let profile = try #require(ContentProfile(sample, isZero: isZero))
    for (page, truth) in [(UInt64(0), 24_000), (10_000, 14_000), (20_000, 4000), (36_000, 4000)] {
      let found = Int(profile.contentPages(from: page, of: 40_000))
      #expect(abs(found - truth) < 1300, "from \(page): \(found) for \(truth), seed \(seed)")
    }
    // Some of RAM could not be looked at.
    #expect(abs(Int(profile.contentPages(from: 0, of: 80_000)) - 48_000) < 2600)
    #expect(profile.contentPages(from: 40_000, of: 40_000) == 0)
    #expect(profile.contentPages(from: 39_999, of: 40_000) == 1)
    #expect(ContentProfile(sample, isZero: []) == nil)
  }

  /// A guest that writes in the first half of the looks alone.
  @Test func windowsTellTheTimesApart() {
    var guest = WrittenGuest(pages: 1000, seed: 5)
    let sample = PageSample(of: 1000, count: 1000, using: &guest.random)
    var history = ChangeHistory(sample)
    #expect(history.windows(1).isEmpty && history.changedPages(limit: 9).isEmpty)
    for look in 0...16 {
      if (1...8).contains(look) { guest.write(50, to: 100..<500) }
      history.look(guest.marks(sample), atMs: UInt64(look) * 250)
    }
    let windows = history.windows(4)
    #expect(windows.map(\.windowMs) == [1000, 1000, 1000, 1000])
    // 200 writes to 400 pages hit 157 of them.
    #expect(windows.prefix(2).allSatisfy { (130...185).contains($0.pages.pages) }, "\(windows)")
    #expect(windows.suffix(2).allSatisfy { $0.pages.pages == 0 })
    // What is left over of the intervals is left out.
    #expect(history.windows(5).map(\.windowMs) == [750, 750, 750, 750, 750])
    #expect(history.windows(0).isEmpty && history.windows(17).isEmpty)
    let all = history.changedPages(limit: 1000)
    #expect(all.count > 200 && all.allSatisfy { (100..<500).contains($0) })
    for limit in [1, 7, 100, all.count] {
      let some = history.changedPages(limit: limit)
      #expect(!some.isEmpty && some.count <= limit && Set(some).isSubset(of: all))
      #expect(zip(some, some.dropFirst()).allSatisfy { $0 < $1 })
    }
    #expect(history.changedPages(limit: 0).isEmpty)
  }

  @Test func aThinnedSampleIsOneAllTheSame() {
    var guest = WrittenGuest(pages: 9000, zero: 3000, seed: 4)
    var sample = PageSample(of: 9000, count: 9000, using: &guest.random)
    sample.thin(1)
    #expect(sample.pages.count == 9000)
    sample.thin(4)
    #expect(sample.pages.count == 2250)
    var history = ChangeHistory(sample)
    history.look(guest.marks(sample), atMs: 0)
    guest.write(5000, to: 0..<1000)
    history.look(guest.marks(sample), atMs: 10)
    #expect(history.sampledPages == 2250 && history.curve.points.count == 1)
    for point in history.curve.points { #expect((950...1050).contains(point.pages.pages)) }
    #expect((2900...3100).contains(history.zeroPages.pages))
  }

  /// A page's heat is how many of the last eight epochs hit it.
  @Test func epochsCountByHeat() {
    var random = SplitMix64(seed: 1)
    var track = HeatTrack(PageSample(of: 8, count: 4, using: &random))
    #expect(track.look([1, 1, 1, 0], atMs: 0) == nil)
    for epoch in 1...10 as ClosedRange<UInt64> {
      // One page is hit each time, one every second time.
      let counts = track.look([1 + epoch, 1 + epoch / 2, 1, 0], atMs: epoch * 100)?.dirtiedByHeat
      var expected = [UInt64](repeating: 0, count: 8)
      expected[Int(min(epoch, 8)) - 1] += 2
      if epoch % 2 == 0 { expected[Int(min(epoch / 2, 4)) - 1] += 2 }
      #expect(counts == expected, "epoch \(epoch)")
    }
    #expect(track.zeroPages.pages == 2)
    #expect(track.look([], atMs: 9999) == nil)
  }

  private func exponential(_ power: Double) -> Double {
    (1...200).reduce((1.0, 1.0)) { ($0.0 * power / Double($1), $0.1 + $0.0 * power / Double($1)) }
      .1
  }
}
