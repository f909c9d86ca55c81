import Base
import Testing
import Wire

@Suite struct BarrierBatchTests {
  /// Whole frames, drawn from seeds: between two barriers no page goes twice, and a barrier stands only
  /// where one was needed.
  @Test(arguments: Array(1...20) as [UInt64])
  func noPageTwiceBetweenBarriers(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    var tracker = BarrierTracker(blockPages: [200, 50])
    var generation: Set<[UInt64]> = []
    var after: UInt64 = 0
    for _ in 0..<300 {
      let block = UInt16(random.next() % 2)
      let first = random.next() % 40
      let run = PageRun(
        block: block, pageClass: .raw, firstPage: first,
        count: UInt32(random.next() % 8 + 1))
      let pages = (0..<UInt64(run.count)).map { [UInt64(block), first + $0] }
      tracker.note([run])
      let place = tracker.nextPlace()
      let isNeeded = pages.contains { generation.contains($0) }
      #expect((place.after != after) == isNeeded)
      if isNeeded {
        #expect(place.after == place.sequence - 1)
        generation = []
      }
      after = place.after
      generation.formUnion(pages)
    }
  }
}
