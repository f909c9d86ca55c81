import Base
import DiskStrategy
import Testing

@Suite struct PullMapTests {
  private func map(blocks: Int) throws -> PullMap {
    PullMap(try #require(DiskGeometry(byteCount: UInt64(blocks) * 4096)))
  }

  private func admit(_ blocks: Range<Int>, to map: inout PullMap) throws -> PullTicket {
    let ticket = map.admit(blocks)
    return try #require(ticket)
  }

  @Test func aRequestFetchesOnlyWhatIsMissing() throws {
    var map = try map(blocks: 200)
    let write = try admit(60..<70, to: &map)
    #expect(map.freeRun(in: 50..<80) == 50..<60 && map.freeRun(in: 60..<70) == nil)
    #expect(map.place(of: 60..<80) == .busy)
    map.settle(write)
    #expect(map.isHere(60..<70) && !map.isHere(59..<61) && !map.isStable(60..<70))
    #expect(map.freeRun(in: 60..<80) == 70..<80)
    // A run may go over the end of a chunk, and is no longer than a chunk.
    #expect(map.freeRun(in: 100..<140) == 100..<140)
    #expect(map.freeRun(in: 70..<200) == 70..<134)
    #expect(map.place(of: 60..<80) == .here(60..<70))
    #expect(map.place(of: 70..<80) == .missing(70..<80))
    let extents = [map.extent(of: 60..<80), map.extent(of: 70..<200), map.extent(of: 0..<200)]
    #expect(extents.map(\.blocks) == [60..<70, 70..<200, 0..<60])
    #expect(extents.map(\.isHere) == [true, false, false])
    #expect(map.missingByteCount == 190 * 4096)
  }

  @Test func aWriteWinsOverAFetch() throws {
    var map = try map(blocks: 64)
    let fetch = map.take(0..<20)
    #expect(fetch.map(\.blocks) == [0..<20] && map.freeRun(in: 0..<20) == nil)
    let write = try admit(5..<8, to: &map)
    let stores = map.arrive(fetch[0])
    #expect(stores.map(\.blocks) == [0..<5, 8..<20])
    let next = try admit(4..<6, to: &map)
    #expect(map.mustWait(next) && !map.mustWait(write))
    map.settle(write)
    #expect(map.mustWait(next))
    stores.forEach { map.settle($0) }
    #expect(!map.mustWait(next))
    map.settle(next)
    #expect(map.isHere(0..<20) && map.isIdle)
    let none = map.admit(4..<6)
    #expect(none == nil)
    // One that failed leaves the blocks to whoever fetches them next.
    let second = map.take(30..<40)
    let failing = try admit(30..<40, to: &map)
    map.drop(failing)
    #expect(map.arrive(second[0]).isEmpty)
    #expect(map.freeRun(in: 30..<40) == 30..<40)
  }

  /// A copier that always stores something doesn't keep a long discard waiting: what is under way ends, and nothing
  /// new begins in its blocks.
  @Test func aLongWriteWaitsForWhatIsUnderWayAlone() throws {
    var map = try map(blocks: 1024)
    map.noteZeros(512..<1024)
    let (first, second) = (map.take(0..<64), map.take(64..<128))
    let taken = map.takeZeros(from: 512, atMost: 64)
    let zeros = try #require(taken)
    let storing = map.arrive(first[0])
    let discard = try admit(0..<1024, to: &map)
    #expect(map.mustWait(discard))
    // One that was fetched meanwhile is thrown away, and neither data nor zeros are begun.
    let late = map.arrive(second[0])
    #expect(late.isEmpty && map.freeRun(in: 0..<1024) == nil)
    let more = map.takeZeros(from: 600, atMost: 64)
    var order = CopyOrder()
    let unasked = order.next(map, follows: true, nowUs: 0)
    #expect(more == nil && unasked == nil)
    storing.forEach { map.settle($0) }
    #expect(map.mustWait(discard))
    map.settle(zeros)
    #expect(!map.mustWait(discard))
    map.settle(discard)
    #expect(map.isHere(0..<1024) && map.isIdle)
  }

  @Test func zerosNeedNotBeRead() throws {
    var map = try map(blocks: 300)
    map.noteZeros(10..<20)
    map.noteZeros(100..<290)
    let pieces = map.take(0..<64)
    #expect(pieces.map(\.blocks) == [0..<10, 10..<20, 20..<64])
    #expect(pieces.map(\.isStore) == [false, true, false])
    let none = map.takeZeros(from: 64, atMost: 100)
    #expect(none == nil)
    let long = map.takeZeros(from: 100, atMost: 1000)
    #expect(long?.blocks == 100..<290)
    let taken = map.takeZeros(from: 100, atMost: 10)
    #expect(taken == nil)
    map.settle(try #require(long))
    #expect(map.isHere(100..<290))
  }

  @Test func whatIsRememberedOfAChunk() throws {
    var map = try map(blocks: 70)
    map.restore(0, here: 0b1110, stable: 0b0100)
    map.restore(1, here: .max, stable: 0)
    #expect(map.hereWord(0) == 0b1110 && map.stableWord(0) == 0b0100)
    // Behind the disk's end there is nothing.
    #expect(map.hereWord(1) == 0b11_1111 && map.stableWord(1) == 0)
    let begins = [map.beginFlush(), map.beginFlush()]
    #expect(begins == [true, false])
    #expect(map.flushingChunks == [0, 1] && map.stableWord(0) == 0b1110)
    map.endFlush(false)
    #expect(map.hasFresh && map.stableWord(0) == 0b0100)
    let again = map.beginFlush()
    map.endFlush(true)
    #expect(again && !map.hasFresh && map.isStable(1..<4))
  }

  @Test func fewerRunsBesideAGuestThatWaits() {
    #expect(PullTerms.allowance(waiting: 0, sinceUs: nil, running: 3) == 64)
    #expect(PullTerms.allowance(waiting: 0, sinceUs: 20_000, running: 4) == 0)
    #expect(PullTerms.allowance(waiting: 0, sinceUs: 500, running: 0) == 16)
    #expect(PullTerms.allowance(waiting: 2, sinceUs: 20_000, running: 1) == 0)
  }

  /// Both sides as a plain model: a block of the image is garbage (-1), the source's (0), or one of the guest's
  /// versions, counted from 1. Fetches, writes, flushes, servers that are killed and hosts that crash in any order.
  @Test(arguments: UInt64(1)...200) func nothingIsLostOrOvertaken(seed: UInt64) throws {
    var model = PullModel(seed: seed)
    for step in 0..<600 {
      model.step()
      if let block = model.wrongBlock {
        Issue.record("block \(block) at step \(step), seed \(seed)")
        return
      }
    }
  }
}

private struct PullModel {
  static let count = 130
  var random: SplitMix64
  var map = PullMap(DiskGeometry(byteCount: UInt64(PullModel.count) * 4096)!)
  var image = [Int](repeating: -1, count: PullModel.count)
  /// What a crash leaves for sure.
  var onMedium = [Int](repeating: -1, count: PullModel.count)
  /// The newest version that the guest was told of, and the newest that a flush was answered for; 0: none.
  var answered = [Int](repeating: 0, count: PullModel.count)
  var flushed = [Int](repeating: 0, count: PullModel.count)
  var here = [UInt64](repeating: 0, count: 3)
  var stable = [UInt64](repeating: 0, count: 3)
  var fetches: [PullTicket] = []
  /// Under way in the image; `isDone`: it has been written, and the map not told.
  var stores: [(ticket: PullTicket, isDone: Bool)] = []
  var writes: [(blocks: Range<Int>, ticket: PullTicket?, versions: [Int])] = []
  /// What was answered when the flush under way began, if one is, and whether the medium has it.
  var flush: (answered: [Int], isDone: Bool)?
  var version = 0
  /// After a server's death, what was wrong with what it left.
  var wrongBlock: Int?

  init(seed: UInt64) { random = SplitMix64(seed: seed) }

  private mutating func pick(_ most: Int) -> Range<Int> {
    let first = Int(random.next() % UInt64(Self.count))
    return first..<min(Self.count, first + 1 + Int(random.next() % UInt64(most)))
  }

  private mutating func pickIndex(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }

  mutating func step() {
    switch random.next() % 16 {
    case 0, 1: take()
    case 2, 3: arrive()
    case 4, 5: store()
    case 6, 7, 8: beginWrite()
    case 9, 10: endWrite()
    case 11, 12: stepFlush()
    case 13: map.noteZeros(pick(10))
    default:
      let chance = random.next() % 40
      if chance < 2 { die(crash: chance == 0) }
    }
    check()
  }

  private mutating func take() {
    if random.next() % 4 == 0 {
      if let zeros = map.takeZeros(from: pick(1).lowerBound, atMost: 30) {
        stores.append((zeros, false))
      }
      return
    }
    guard let run = map.freeRun(in: pick(40)) else { return }
    for ticket in map.take(run) {
      if ticket.isStore { stores.append((ticket, false)) } else { fetches.append(ticket) }
    }
  }

  private mutating func arrive() {
    guard !fetches.isEmpty else { return }
    let ticket = fetches.remove(at: pickIndex(fetches.count))
    if random.next() % 8 == 0 { return map.drop(ticket) }
    for store in map.arrive(ticket) { stores.append((store, false)) }
  }

  private mutating func store() {
    guard !stores.isEmpty else { return }
    let index = pickIndex(stores.count)
    guard stores[index].isDone else {
      for block in stores[index].ticket.blocks { image[block] = 0 }
      return stores[index].isDone = true
    }
    let ticket = stores.remove(at: index).ticket
    // One that fails has perhaps written all the same.
    if random.next() % 8 == 0 { return map.drop(ticket) }
    settle(ticket)
  }

  private mutating func settle(_ ticket: PullTicket) {
    map.settle(ticket)
    for chunk in 0..<3 { here[chunk] = map.hereWord(chunk) }
  }

  private mutating func beginWrite() {
    let blocks = pick(20)
    writes.append((blocks, map.admit(blocks), []))
  }

  private mutating func endWrite() {
    guard !writes.isEmpty else { return }
    let index = pickIndex(writes.count)
    if let ticket = writes[index].ticket, writes[index].versions.isEmpty, map.mustWait(ticket) {
      return
    }
    if writes[index].versions.isEmpty {
      for block in writes[index].blocks {
        version += 1
        image[block] = version
        writes[index].versions.append(version)
      }
      return
    }
    let write = writes.remove(at: index)
    if random.next() % 8 == 0 {
      if let ticket = write.ticket { map.drop(ticket) }
      return
    }
    if let ticket = write.ticket { settle(ticket) }
    for (block, version) in zip(write.blocks, write.versions) {
      answered[block] = max(answered[block], version)
    }
  }

  private mutating func stepFlush() {
    guard let open = flush else {
      // With nothing to make stable the image is flushed alone.
      let covered = answered
      if map.beginFlush() {
        flush = (covered, false)
      } else {
        (onMedium, flushed) = (image, covered)
      }
      return
    }
    if !open.isDone {
      if random.next() % 8 == 0 {
        map.endFlush(false)
        return flush = nil
      }
      onMedium = image
      return flush = (open.answered, true)
    }
    for chunk in map.flushingChunks { stable[chunk] = map.stableWord(chunk) }
    map.endFlush(true)
    flushed = open.answered
    flush = nil
  }

  /// The server dies, alone or with its host; the next one goes on with what is left.
  private mutating func die(crash: Bool) {
    if crash {
      for block in 0..<Self.count where random.next() % 2 == 0 { image[block] = onMedium[block] }
      onMedium = image
      answered = flushed
      here = stable
    }
    (fetches, stores, writes, flush) = ([], [], [], nil)
    map = PullMap(map.geometry)
    for chunk in 0..<3 {
      map.restore(chunk, here: here[chunk] | stable[chunk], stable: stable[chunk])
    }
    for block in 0..<Self.count {
      // What is missing will be the source's.
      if map.missing[block], answered[block] > 0 { wrongBlock = block }
      answered[block] = map.missing[block] ? 0 : max(image[block], 0)
      flushed[block] = min(flushed[block], answered[block])
    }
  }

  private mutating func check() {
    for block in 0..<Self.count where !map.missing[block] && image[block] < answered[block] {
      wrongBlock = block
    }
  }
}

/// What a pull asks its source before it fetches.
@Suite struct ZeroInquiryTests {
  private static let (mebibyte, gibibyte): (UInt64, UInt64) = (1 << 20, 1 << 30)

  @Test func isAsMuchAsPossibleAndEachPartOnce() throws {
    var inquiry = ZeroInquiry(diskByteCount: 2 * Self.gibibyte + 1)
    #expect(inquiry.question(at: 5) == 0..<Self.gibibyte)
    #expect(inquiry.question(at: Self.gibibyte) == Self.gibibyte..<2 * Self.gibibyte)
    #expect(
      inquiry.question(at: 2 * Self.gibibyte) == 2 * Self.gibibyte..<2 * Self.gibibyte + 1)
    #expect(inquiry.question(at: 2 * Self.gibibyte + 1) == nil)
    inquiry.noteAnswer(to: 2 * Self.gibibyte..<2 * Self.gibibyte + 1)
    inquiry.noteAnswer(to: 0..<Self.gibibyte)
    #expect(inquiry.question(at: 2 * Self.gibibyte) == nil)
    #expect(inquiry.question(at: Self.gibibyte - 1) == nil)
    #expect(inquiry.question(at: Self.gibibyte) != nil)
  }

  @Test func isShorterAfterEachBreakAndEndsAtLast() {
    var inquiry = ZeroInquiry(diskByteCount: Self.gibibyte)
    var counts: [UInt64] = []
    // What was answered isn't asked again, whatever breaks later.
    inquiry.noteAnswer(to: 0..<16 * Self.mebibyte)
    while let question = inquiry.question(at: Self.gibibyte - 1), counts.count < 10 {
      counts.append(question.upperBound - question.lowerBound)
      #expect(question.upperBound == Self.gibibyte && inquiry.question(at: 0) == nil)
      inquiry.noteBreak()
    }
    #expect(counts.map { $0 / Self.mebibyte } == [1024, 256, 64, 16])
    inquiry.noteBreak()
    #expect(inquiry.question(at: Self.gibibyte - 1) == nil)
  }
}
