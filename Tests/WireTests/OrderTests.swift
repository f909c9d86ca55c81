import Base
import Testing
import Wire

@Suite struct OrderTests {
  /// I4 over seeds: a source that re-sends pages, lanes that reorder, a destination that applies
  /// whatever is ready in any order. The last version of each page must win.
  @Test(arguments: UInt64(1)...200) func newestVersionWins(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    let pages = Int.random(in: 1...30, using: &random)
    var tracker = BarrierTracker(blockPages: [pages, 3])
    var newest: [[Int]] = [Array(repeating: -1, count: pages), Array(repeating: -1, count: 3)]
    var frames: [(place: SequencedHeader, pages: [(block: Int, page: Int, version: Int)])] = []
    var current: [(block: Int, page: Int, version: Int)] = []
    for version in 0..<300 {
      let block = Int.random(in: 0...9, using: &random) == 0 ? 1 : 0
      let page = Int.random(in: 0..<(block == 0 ? pages : 3), using: &random)
      if !tracker.note(block: block, page: page) {
        if !current.isEmpty { frames.append((tracker.nextPlace(), current)) }
        current = []
        tracker.placeBarrier()
        let noted = tracker.note(block: block, page: page)
        #expect(noted)
      }
      current.append((block, page, version))
      newest[block][page] = version
      if current.count == 4 {
        frames.append((tracker.nextPlace(), current))
        current = []
      }
      if Int.random(in: 0...50, using: &random) == 0 {
        if !current.isEmpty { frames.append((tracker.nextPlace(), current)) }
        current = []
        frames.append((tracker.nextExclusivePlace(), []))
      }
    }
    if !current.isEmpty { frames.append((tracker.nextPlace(), current)) }

    var order = ApplyOrder()
    var applied: [[Int]] = [Array(repeating: -1, count: pages), Array(repeating: -1, count: 3)]
    var waiting = frames.shuffled(using: &random)
    var ready: [UInt64] = []
    while !waiting.isEmpty || !ready.isEmpty {
      if ready.isEmpty || (!waiting.isEmpty && Bool.random(using: &random)) {
        let frame = waiting.removeLast()
        if try order.arrived(sequence: frame.place.sequence, after: frame.place.after) {
          ready.append(frame.place.sequence)
        }
      } else {
        let sequence = ready.remove(at: Int.random(in: 0..<ready.count, using: &random))
        for (block, page, version) in frames[Int(sequence) - 1].pages {
          #expect(applied[block][page] < version, "seed \(seed): older version applied later")
          applied[block][page] = version
        }
        ready += try order.finished(sequence)
      }
    }
    #expect(applied == newest, "seed \(seed)")
    #expect(order.appliedThrough == UInt64(frames.count))
    #expect(order.parkedCount == 0)
  }

  @Test func strangersAreRefused() throws {
    var order = ApplyOrder(windowFrames: 10)
    let ready = try order.arrived(sequence: 1, after: 0)
    #expect(ready)
    #expect(throws: ApplyOrder.Refusal.duplicate(1)) {
      try order.arrived(sequence: 1, after: 0)
    }
    #expect(throws: ApplyOrder.Refusal.tooFarAhead(sequence: 11, appliedThrough: 0)) {
      try order.arrived(sequence: 11, after: 0)
    }
    #expect(throws: ApplyOrder.Refusal.notInProgress(5)) { try order.finished(5) }
    let next = try order.finished(1)
    #expect(next.isEmpty)
    #expect(throws: ApplyOrder.Refusal.duplicate(1)) {
      try order.arrived(sequence: 1, after: 0)
    }
  }

  @Test func windowFollowsTheMeasuredRate() throws {
    var window = SendWindow(limitMax: 64 << 20)
    var now: UInt64 = 0
    var sequence: UInt64 = 0
    // A link of 100 MB/s with 10 ms of round trip: 1 MB every 10 ms.
    for _ in 0..<200 {
      sequence += 1
      window.sent(sequence: sequence, bytes: 1_000_000, nowMs: now)
      window.noteBlocked()
      now += 10
      let known = window.acknowledged(through: sequence, nowMs: now)
      #expect(known)
    }
    #expect(window.inFlight == 0)
    #expect(window.rate?.bytesPerSecond == 100_000_000)
    #expect(window.roundTripMinMs == 10)
    // 100 MB/s for 35 ms, a quarter on top: 4.375 MB.
    #expect(window.limit == 4_375_000)
  }

  @Test func windowAlwaysAdmitsOneFrame() {
    var window = SendWindow(limitMax: 0)
    #expect(window.admits(1 << 40))
    window.sent(sequence: 1, bytes: SendWindow.limitMin, nowMs: 0)
    #expect(!window.admits(1))
    let neverSent = window.acknowledged(through: 2, nowMs: 1)
    #expect(!neverSent)
  }

  @Test func bucketHoldsItsRate() throws {
    let rate = try #require(ByteRate(bytesPerSecond: 10_000_000))
    var bucket = TokenBucket(rate: rate, nowUs: 0)
    var now: UInt64 = 0
    for _ in 0..<100 { now += bucket.take(500_000, nowUs: now) }
    // 50 MB at 10 MB/s are 5 s, less the first burst of 1 MiB.
    #expect((4_890_000...4_900_000).contains(now))
  }
}
