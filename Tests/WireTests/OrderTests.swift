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
      // One frame in the window of 4 MiB at first: the next one is refused as if it were large.
      window.noteRefused(64 << 20)
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

  /// Pages that are packed small, or zeros: the encoders are the limit, and the link carries what it did. Encoders
  /// that are slow with anything are as good as a slow link.
  @Test func theRateIsTheLinksNotThatOfPackedPages() {
    func rate(bytes: UInt64, coveredBytes: UInt64, isFull: Bool = false) -> UInt64? {
      var window = SendWindow(limitMax: 64 << 20)
      var (now, sequence): (UInt64, UInt64) = (0, 0)
      for round in 0..<250 {
        let isLater = round >= 50
        sequence += 1
        window.sent(
          sequence: sequence, bytes: isLater ? bytes : 1_000_000,
          pageBytes: isLater ? coveredBytes : 0, nowMs: now)
        if isLater, !isFull { window.noteEncodersBusy() } else { window.noteRefused(64 << 20) }
        now += 10
        _ = window.acknowledged(through: sequence, nowMs: now)
      }
      return window.rate?.bytesPerSecond
    }
    #expect(rate(bytes: 100, coveredBytes: 8_000_000) == 100_000_000)
    #expect(rate(bytes: 300_000, coveredBytes: 1_000_000) == 100_000_000)
    // A full window may be the destination's doing for a second (these are two).
    #expect(
      (30_000_000..<30_700_000).contains(
        rate(bytes: 300_000, coveredBytes: 1_000_000, isFull: true) ?? 0))
    #expect((50_000_000..<50_010_000).contains(rate(bytes: 500_000, coveredBytes: 500_000) ?? 0))
    #expect((40_000_000..<40_010_000).contains(rate(bytes: 100_000, coveredBytes: 400_000) ?? 0))
  }

  /// The first samples weigh alike: one that began with the connection doesn't hold the rate down.
  @Test func aSlowStartIsSoonForgotten() {
    var window = SendWindow(limitMax: 64 << 20)
    for round in 0..<4 as Range<UInt64> {
      window.sent(sequence: round + 1, bytes: round == 0 ? 100_000 : 5_000_000, nowMs: round * 50)
      window.noteRefused(64 << 20)
      _ = window.acknowledged(through: round + 1, nowMs: (round + 1) * 50)
    }
    #expect(window.rate?.bytesPerSecond == 75_499_999)
  }

  /// Pages of zeros weigh nothing in bytes, and are as many as the destination takes in a moment.
  @Test func zerosFollowThePaceOfTheDestination() {
    var window = SendWindow(limitMax: 64 << 20)
    func reserve(_ pages: UInt64) -> Bool { window.reserve(zeroPages: pages) }
    // However many, while nothing is on its way.
    #expect(reserve(60_000) && !reserve(1))
    #expect(window.zeros.applyingMs == 0 && window.zeros.rate == nil)
    window.sent(sequence: 1, bytes: 60, zeroPages: 60_000, nowMs: 0)
    let first = window.acknowledged(through: 1, nowMs: 100)
    #expect(first && window.zeros.pages == 0)
    // 600,000 a second: for 100 ms of round trip and 25 more, and a quarter on top.
    #expect(window.zeros.rate == 600_000 && window.zeros.limit == 93_750)
    #expect(reserve(30_000) && reserve(60_000) && !reserve(4000))
    #expect(window.zeros.applyingMs == 150)
    #expect(window.admits(SendWindow.limitMin) && window.rate?.bytesPerSecond == 600)
    // Pages with contents stand before them for a while: that says nothing of their pace.
    var (now, sequence) = (100 as UInt64, 1 as UInt64)
    for _ in 0..<20 {
      (now, sequence) = (now + 50, sequence + 1)
      window.sent(sequence: sequence, bytes: 1_000_000, nowMs: now)
      _ = window.acknowledged(through: sequence, nowMs: now + 50)
      #expect(!reserve(4000))
    }
    #expect(window.zeros.rate == 600_000)
  }

  /// Zeros behind full pages wait for those: a few of them among such pages say nothing of how fast zeros are taken.
  @Test func zerosAmongPagesWithContentsAreNoMeasure() {
    for isKnown in [false, true] {
      var window = SendWindow(limitMax: 64 << 20)
      var (now, sequence) = (0 as UInt64, 0 as UInt64)
      func reserve(_ pages: UInt64) -> Bool { window.reserve(zeroPages: pages) }
      func pass(zeroPages: UInt64, pageBytes: UInt64) {
        (now, sequence) = (now + 50, sequence + 1)
        window.sent(
          sequence: sequence, bytes: pageBytes + 60, pageBytes: pageBytes, zeroPages: zeroPages,
          nowMs: now - 50)
        _ = window.acknowledged(through: sequence, nowMs: now)
      }
      if isKnown {
        #expect(reserve(30_000) && !reserve(1 << 40))
        pass(zeroPages: 30_000, pageBytes: 0)
      }
      #expect(reserve(4000))
      for _ in 0..<12 {
        #expect(!reserve(1 << 40))
        _ = reserve(3)
        pass(zeroPages: 3, pageBytes: 128 * 4096)
      }
      #expect(window.zeros.applyingMs == (isKnown ? 6 : 0))
    }
  }

  /// Pages that pack well are few bytes on the wire, and as much to write as any.
  @Test func packedPagesTakeTheDestinationTheirWholeSize() {
    var window = SendWindow(limitMax: 64 << 20)
    window.sent(sequence: 1, bytes: 400_000, pageBytes: 20_000_000, nowMs: 0)
    #expect(window.applyingMs == 0)
    window.noteRefused(1)
    _ = window.acknowledged(through: 1, nowMs: 50)
    // 400 MB/s is known now, over a link that carried 8 MB/s.
    #expect(window.applyingMs == 0)
    window.sent(sequence: 2, bytes: 400_000, pageBytes: 20_000_000, nowMs: 50)
    #expect(window.applyingMs == 50)
    // One that waits for more to come takes no longer for it.
    window.sent(sequence: 3, bytes: 10_000, pageBytes: 4_000_000, nowMs: 60)
    _ = window.acknowledged(through: 2, nowMs: 200)
    #expect(window.applyingMs == 10)
    _ = window.acknowledged(through: 3, nowMs: 300)
    #expect(window.applyingMs == 0)
  }

  /// A destination that has become slow is known to be after a few samples.
  @Test func zerosSlowDownWithTheDestination() {
    var window = SendWindow(limitMax: 64 << 20)
    var (now, sequence) = (0 as UInt64, 0 as UInt64)
    for pages in [100_000, 1000] as [UInt64] {
      for _ in 0..<10 {
        sequence += 1
        let isTaken = window.reserve(zeroPages: pages)
        let more = window.reserve(zeroPages: 1 << 40)
        #expect(isTaken && !more)
        window.sent(sequence: sequence, bytes: 60, zeroPages: pages, nowMs: now)
        now += 50
        _ = window.acknowledged(through: sequence, nowMs: now)
      }
    }
    #expect(window.zeros.rate == 20_000 && window.zeros.limit == ZeroWindow.pagesMin)
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
