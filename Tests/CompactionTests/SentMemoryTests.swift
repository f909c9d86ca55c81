import Base
import Compaction
import Testing
import Wire

/// References against a model of the destination that applies frames in every order that is allowed.
@Suite struct SentMemoryTests {
  static let pages = 60
  static let blockPages = [40, 20]

  /// A frame as the source wrote it.
  struct Frame {
    let place: SequencedHeader
    let runs: [PageRun]
    /// The pages as they were, and how each goes.
    let contents: [[UInt8]]
    let references: [PageReference?]
    let differences: [[UInt8]]
  }

  static func content(_ random: inout SplitMix64) -> [UInt8] {
    // Few contents, so that there are duplicates; each sometimes with a change in one place.
    var page = [UInt8](repeating: UInt8.random(in: 1...4, using: &random), count: Page.size)
    page[9] = 77
    if random.next() % 3 == 0 {
      page[Int.random(in: 0..<Page.size, using: &random)] ^= UInt8.random(
        in: 1...255, using: &random)
    }
    return page
  }

  /// Stands in for the strong hash: the content itself, folded; tests compare contents besides.
  static func identity(_ page: [UInt8]) -> [UInt8] {
    var sum = SIMD32<UInt8>()
    page.withUnsafeBytes { bytes in
      for offset in stride(from: 0, to: bytes.count, by: SIMD32<UInt8>.scalarCount) {
        sum = sum &* 31 &+ bytes.loadUnaligned(fromByteOffset: offset, as: SIMD32<UInt8>.self)
      }
    }
    return withUnsafeBytes(of: sum) { Array($0) }
  }

  static func write(
    _ runs: [PageRun], _ tracker: inout BarrierTracker, _ memory: inout SentMemory,
    _ random: inout SplitMix64
  ) -> Frame {
    let isSeparated = tracker.note(runs)
    if isSeparated {
      memory.separated(runs)
    } else if memory.numbering(runs) {
      tracker.placeBarrier()
      _ = tracker.note(runs)
      memory.separated(runs)
    }
    let place = tracker.nextPlace()
    var after = place.after
    var (contents, references, differences): ([[UInt8]], [PageReference?], [[UInt8]]) = ([], [], [])
    for run in runs {
      for page in run.firstPage..<run.firstPage + UInt64(run.count) {
        let content = content(&random)
        contents.append(content)
        var difference = [UInt8](repeating: 0, count: Page.size)
        let hash = SentMemory.hash(content.span.bytes, seed: 1)
        var reference: PageReference?
        if let found = memory.duplicate(hash, for: place.sequence) {
          after = max(after, found.sequence)
          reference = .duplicate(
            DuplicateNote(block: found.block, page: found.page, identity: identity(content)))
        } else if difference.withUnsafeMutableBytes({
          memory.delta(block: run.block, page: page, content.span.bytes, into: $0)
        }) {
          reference = .delta(check: PageDelta.check(content.span.bytes))
        }
        references.append(reference)
        differences.append(difference)
        memory.sent(
          block: run.block, page: page, content.span.bytes, hash: hash, sequence: place.sequence)
      }
    }
    return Frame(
      place: SequencedHeader(sequence: place.sequence, after: after), runs: runs,
      contents: contents, references: references, differences: differences)
  }

  /// Applies a frame to memory; the references that did not fit.
  static func apply(_ frame: Frame, _ memory: inout [[UInt8]]) -> Int {
    var index = 0
    var misfits = 0
    for run in frame.runs {
      for page in run.firstPage..<run.firstPage + UInt64(run.count) {
        let number = (run.block == 0 ? 0 : blockPages[0]) + Int(page)
        switch frame.references[index] {
        case nil: memory[number] = frame.contents[index]
        case .delta(let check):
          var made = frame.differences[index]
          let old = memory[number]
          made.withUnsafeMutableBytes { PageDelta.apply(old.span.bytes, to: $0) }
          if PageDelta.check(made.span.bytes) != check || made != frame.contents[index] {
            misfits += 1
          }
          memory[number] = made
        case .duplicate(let note):
          let made = memory[(note.block == 0 ? 0 : blockPages[0]) + Int(note.page)]
          if identity(made) != note.identity || made != frame.contents[index] { misfits += 1 }
          memory[number] = made
        default: misfits += 1  // nothing else is made of what was sent before
        }
        index += 1
      }
    }
    return misfits
  }

  @Test(arguments: UInt64(1)...60) func referencesFitInEveryOrderThatIsAllowed(seed: UInt64) throws
  {
    var random = SplitMix64(seed: seed)
    var tracker = BarrierTracker(blockPages: Self.blockPages)
    var memory = SentMemory(
      blockPages: Self.blockPages, isReadable: [true, true], byteLimit: 4 << 20)
    var frames: [Frame] = []
    for _ in 0..<40 {
      let block = UInt16(random.next() % 2)
      let count = UInt32(random.next() % 5 + 1)
      let first = random.next() % UInt64(Self.blockPages[Int(block)] - Int(count))
      let run = PageRun(block: block, pageClass: .raw, firstPage: first, count: count)
      frames.append(Self.write([run], &tracker, &memory, &random))
    }
    let all = frames.flatMap(\.references)
    #expect(all.contains { if case .delta = $0 { true } else { false } })
    #expect(all.contains { if case .duplicate = $0 { true } else { false } })

    for _ in 0..<5 {
      // Frames arrive in any order; any frame that is ready may be applied next.
      var order = ApplyOrder()
      var destination = [[UInt8]](
        repeating: [UInt8](repeating: 0, count: Page.size), count: Self.pages)
      var ready: [UInt64] = []
      for frame in frames.shuffled(using: &random)
      where try order.arrived(sequence: frame.place.sequence, after: frame.place.after) {
        ready.append(frame.place.sequence)
      }
      var misfits = 0
      while !ready.isEmpty {
        let sequence = ready.remove(at: Int.random(in: 0..<ready.count, using: &random))
        misfits += Self.apply(frames[Int(sequence) - 1], &destination)
        ready += try order.finished(sequence)
      }
      #expect(order.appliedThrough == UInt64(frames.count))
      #expect(misfits == 0, "seed \(seed)")
    }
  }

  @Test func aPageThatIsNamedAsksForABarrier() {
    var memory = SentMemory(blockPages: [8], isReadable: [true], byteLimit: 4 << 20)
    let page = [UInt8](repeating: 5, count: Page.size)
    let hash = SentMemory.hash(page.span.bytes, seed: 1)
    let run = [PageRun(block: 0, pageClass: .raw, firstPage: 2, count: 1)]
    var isNamed = memory.numbering(run)
    #expect(!isNamed)
    var found = memory.duplicate(hash, for: 9)
    #expect(found == nil)
    memory.sent(block: 0, page: 2, page.span.bytes, hash: hash, sequence: 4)
    found = memory.duplicate(hash, for: 4)
    #expect(found == nil, "a frame cannot wait for itself")
    found = memory.duplicate(hash, for: 5)
    #expect(found?.block == 0 && found?.page == 2 && found?.sequence == 4)
    isNamed = memory.numbering(run)
    #expect(isNamed)
    memory.separated(run)
    isNamed = memory.numbering(run)
    #expect(!isNamed)
    found = memory.duplicate(hash, for: 9)
    #expect(found == nil)
  }

  @Test func blocksThatCannotBeReadAreNotReferredTo() {
    let memory = SentMemory(
      blockPages: [8, 8], isReadable: [true, false], byteLimit: 4 << 20)
    let first = PageRun(block: 0, pageClass: .raw, firstPage: 0, count: 1)
    #expect(memory.mayRefer([first]))
    #expect(!memory.mayRefer([first, PageRun(block: 1, pageClass: .zero, firstPage: 0, count: 1)]))
    #expect(!memory.mayRefer([PageRun(block: 2, pageClass: .raw, firstPage: 0, count: 1)]))
  }

  @Test func memoryIsBoundedAndKeepsWhatComesAgain() {
    // Room for 256 pages beside the directory; 2000 are sent, 100 of them again and again.
    var memory = SentMemory(blockPages: [4000], isReadable: [true], byteLimit: 1_300_000)
    var page = [UInt8](repeating: 3, count: Page.size)
    var difference = [UInt8](repeating: 0, count: Page.size)
    func send(_ number: UInt64, _ sequence: UInt64) -> Bool {
      page[0] = UInt8(truncatingIfNeeded: sequence)
      let isDelta = difference.withUnsafeMutableBytes {
        memory.delta(block: 0, page: number, page.span.bytes, into: $0)
      }
      memory.sent(
        block: 0, page: number, page.span.bytes, hash: SentMemory.hash(page.span.bytes, seed: 1),
        sequence: sequence)
      return isDelta
    }
    var deltas = 0
    for round in 0..<20 as Range<UInt64> {
      for hot in 0..<100 as Range<UInt64> where send(hot, round + 1) { deltas += 1 }
      for cold in 0..<95 as Range<UInt64> { _ = send(1000 + round * 95 + cold, round + 1) }
    }
    #expect(deltas > 1500, "\(deltas) of 1900 were kept")
  }

  /// As many contents as the guest has pages, nearly, and the others twice: few are lost though they meet in sets.
  @Test(arguments: [1, 2, 3] as [UInt64]) func duplicatesOfAFullGuestAreFound(seed: UInt64) {
    let pages = 4096
    var memory = SentMemory(blockPages: [pages], isReadable: [true], byteLimit: 1 << 20)
    let page = [UInt8](repeating: 3, count: Page.size)
    var random = SplitMix64(seed: seed)
    let contents = (0..<pages).map { $0 % (pages * 9 / 10) }.shuffled(using: &random)
    var seen: Set<Int> = []
    var (twice, found) = (0, 0)
    for (number, content) in contents.enumerated() {
      var hash = SplitMix64(seed: UInt64(content))
      let mark = hash.next()
      let reference = memory.duplicate(mark, for: UInt64(number) + 2)
      if !seen.insert(content).inserted {
        twice += 1
        if let reference { found += contents[Int(reference.page)] == content ? 1 : 0 }
      } else {
        #expect(reference == nil)
      }
      memory.sent(
        block: 0, page: UInt64(number), page.span.bytes, hash: mark, sequence: UInt64(number) + 1)
    }
    // A table with one place for each hash finds three of four.
    #expect(twice == pages - pages * 9 / 10 && found > twice * 19 / 20, "\(found) of \(twice)")
  }

  /// A page that goes back and forth between two contents is named for what it holds, by the frame that brought it last.
  @Test func aContentThatComesBackHasItsNewFrame() {
    var memory = SentMemory(blockPages: [64], isReadable: [true], byteLimit: 4 << 20)
    let page = [UInt8](repeating: 5, count: Page.size)
    func send(_ number: UInt64, _ hash: UInt64, _ sequence: UInt64) {
      memory.sent(block: 0, page: number, page.span.bytes, hash: hash, sequence: sequence)
    }
    // The first two meet, and go to others that don't; then page 2 has what page 1 had.
    send(3, 5 << 32, 1)
    send(1, 7 << 32, 2)
    send(3, 11 << 32 | 1, 3)
    send(1, 13 << 32 | 1, 4)
    send(2, 7 << 32, 5)
    send(1, 7 << 32, 6)
    memory.separated([PageRun(block: 0, pageClass: .raw, firstPage: 2, count: 1)])
    let found = memory.duplicate(7 << 32, for: 10)
    #expect(found?.page == 1 && found?.sequence == 6, "\(found as Any)")
  }

  @Test func zerosAreForgotten() {
    var memory = SentMemory(blockPages: [8], isReadable: [true], byteLimit: 4 << 20)
    let page = [UInt8](repeating: 5, count: Page.size)
    memory.sent(
      block: 0, page: 2, page.span.bytes, hash: SentMemory.hash(page.span.bytes, seed: 1),
      sequence: 4)
    var difference = [UInt8](repeating: 0, count: Page.size)
    func hasDelta() -> Bool {
      difference.withUnsafeMutableBytes {
        memory.delta(block: 0, page: 2, page.span.bytes, into: $0)
      }
    }
    #expect(hasDelta())
    memory.forgetContents(PageRun(block: 0, pageClass: .zero, firstPage: 0, count: 8))
    #expect(!hasDelta())
  }
}
