import Base
import Testing
import Wire

@Suite struct PullFrameTests {
  static let requests = PullRequests([
    PullRequest(block: 0, kind: .urgent, firstPage: 0x1234, count: 1),
    PullRequest(block: 2, kind: .identities, firstPage: 7, count: 32),
  ])
  static let requestBytes: [UInt8] =
    [0, 2]  // requests
    + [0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x12, 0x34]  // block 0, urgent, a page
    + [0, 2, 2, 0, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 7]  // block 2, identities, 32 pages

  static let invalid = InvalidPages(
    place: SequencedHeader(sequence: 9, after: 8), block: 1, isLast: true,
    runs: [3..<5, 5..<6, 0x100..<0x200])
  static let invalidBytes: [UInt8] =
    [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 8]  // sequence, after
    + [0, 1, 1, 0, 0, 0, 0, 3]  // block 1, last, runs
    + [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2] + [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1]
    + [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0]

  @Test func framesHaveTheirGoldenForm() throws {
    var bytes: [UInt8] = []
    Self.requests.encode(into: &bytes)
    #expect(bytes == Self.requestBytes)
    var cursor = ByteCursor(Self.requestBytes.span.bytes)
    let requests = try PullRequests(decoding: &cursor)
    #expect(requests == Self.requests)

    bytes = []
    Self.invalid.encode(into: &bytes)
    #expect(bytes == Self.invalidBytes)
    cursor = ByteCursor(Self.invalidBytes.span.bytes)
    let invalid = try InvalidPages(decoding: &cursor)
    #expect(invalid == Self.invalid)

    bytes = []
    let part = DeviceStatePart(
      place: SequencedHeader(sequence: 1, after: 0), isLast: true, bytes: [4, 0x7E])
    part.encode(into: &bytes)
    #expect(bytes == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 0x7E])
    cursor = ByteCursor(bytes.span.bytes)
    #expect(try DeviceStatePart(decoding: &cursor) == part)
    bytes[16] = 2
    #expect(throws: DecodeError.self) {
      var cursor = ByteCursor(bytes.span.bytes)
      _ = try DeviceStatePart(decoding: &cursor)
    }

    bytes = []
    PullDone(placedPages: 258, faultPages: 3, comparedPages: 7, differingPages: 1).encode(
      into: &bytes)
    #expect(bytes.count == PullDone.byteCount && bytes.prefix(8) == [0, 0, 0, 0, 0, 0, 1, 2])
    cursor = ByteCursor(bytes.span.bytes)
    let done = try PullDone(decoding: &cursor)
    #expect(done.placedPages == 258 && done.faultPages == 3)
    #expect(done.comparedPages == 7 && done.differingPages == 1)
  }

  private func decode(_ bytes: [UInt8], as kind: Int) throws {
    var cursor = ByteCursor(bytes.span.bytes)
    switch kind {
    case 0: _ = try PullRequests(decoding: &cursor)
    case 1: _ = try InvalidPages(decoding: &cursor)
    default: _ = try PullDone(decoding: &cursor)
    }
  }

  @Test func everyOtherLengthIsRefused() throws {
    for (kind, bytes) in [Self.requestBytes, Self.invalidBytes, [UInt8](repeating: 0, count: 32)]
      .enumerated()
    {
      try decode(bytes, as: kind)
      for length in 0..<bytes.count {
        #expect(throws: DecodeError.self) { try decode(Array(bytes.prefix(length)), as: kind) }
      }
      #expect(throws: DecodeError.self) { try decode(bytes + [0], as: kind) }
    }
  }

  /// Place in the bytes, and what is put there.
  @Test(
    arguments: [
      (0, 0, [0, 0]),  // no requests
      (0, 0, [1, 1]),  // more than the limit
      (0, 4, [3]),  // kind
      (0, 5, [1]),  // reserved
      (0, 6, [0, 0, 0, 0]),  // no pages
      (0, 6, [0, 4, 0, 1]),  // more than a gigabyte
      (0, 10, [0, 0x10, 0, 0, 0, 0, 0, 0]),  // beyond any block
      (1, 0, [0, 0, 0, 0, 0, 0, 0, 0]),  // no sequence
      (1, 18, [2]), (1, 19, [1]),
      (1, 20, [0, 1, 0, 1]),  // runs over the limit
      (1, 20, [0, 0, 0, 2]),  // bytes behind the runs
      (1, 24, [0, 0, 0, 0, 0, 0, 0, 4]),  // overlaps the next
      (1, 32, [0, 0, 0, 0]),  // an empty run
      (1, 48, [0, 0x10, 0, 0, 0, 0, 0, 0]),
    ] as [(Int, Int, [UInt8])])
  func whatNoPeerSendsIsRefused(kind: Int, at: Int, change: [UInt8]) {
    var bytes = kind == 0 ? Self.requestBytes : Self.invalidBytes
    bytes.replaceSubrange(at..<at + change.count, with: change)
    #expect(throws: DecodeError.self) { try decode(bytes, as: kind) }
  }

  @Test func fullFramesFitTheirLimits() {
    var bytes: [UInt8] = []
    let request = PullRequest(block: 1, kind: .ahead, firstPage: 0, count: 1)
    PullRequests(Array(repeating: request, count: PullLimits.requestsMax)).encode(into: &bytes)
    #expect(bytes.count == FrameHeader.payloadLimit(.pullRequest))
    bytes = []
    InvalidPages(
      place: Self.invalid.place, block: 0, isLast: false,
      runs: (0..<UInt64(PullLimits.invalidRunsMax)).map { $0 * 2..<$0 * 2 + 1 }
    ).encode(into: &bytes)
    #expect(bytes.count == FrameHeader.payloadLimit(.invalidPages))
  }

  @Test(arguments: UInt64(1)...50) func bitmapsBecomeRunsAndBack(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let base = 128
    let count = Int.random(in: 1...2000, using: &random)
    var pages = PageBitmap(count: base + count + 100)
    for page in 0..<pages.count where Int.random(in: 0..<3, using: &random) > 0 {
      pages[page] = true
    }
    let limit = Int.random(in: 1...40, using: &random)
    let frames = InvalidPages.runs(of: pages, in: base..<base + count, perFrame: limit)
    #expect(frames.allSatisfy { (1...limit).contains($0.count) }, "seed \(seed)")
    var back = PageBitmap(count: pages.count)
    for run in frames.joined() {
      for page in run { back[base + Int(page)] = true }
    }
    for page in 0..<pages.count where !(base..<base + count).contains(page) { pages[page] = false }
    #expect(back == pages, "seed \(seed)")
  }
}
