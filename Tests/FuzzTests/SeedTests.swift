import Base
import Compaction
import Foundation
import FuzzHarness
import Testing
import Wire

/// Inputs that the fuzzers begin with, one of each form, because they would take long to find it by themselves.
/// `UPDATE_GOLDEN=1` writes them again.
@Suite struct SeedTests {
  private static let identity = (0..<32).map { UInt8($0) }
  private static let duplicate = DuplicateNote(block: 0, page: 7, identity: identity)
  private static let disk = DiskNote(image: 1, block: 9, identity: identity)
  private static let gang = GangNote(member: 2, block: 0, page: 5, identity: identity)
  private static let vault = VaultNote(snapshot: 3, page: 11, identity: identity)

  /// A frame whose first pages are made of `references`, with one of text and one of random bytes behind them.
  private static func encodedPages(_ references: [PageReference], _ effort: Effort) -> [UInt8] {
    var random = SplitMix64(seed: 1)
    var pages: [UInt8] = []
    for index in 0..<references.count + 2 {
      for place in 0..<Page.size {
        let isText = index <= references.count
        pages.append(isText ? UInt8(65 + place % 7) : UInt8(truncatingIfNeeded: random.next()))
      }
    }
    let batch = BatchHeader(
      place: SequencedHeader(sequence: 5, after: 4),
      runs: [
        PageRun(block: 0, pageClass: .zero, firstPage: 0, count: 3),
        PageRun(
          block: 0, pageClass: .raw, firstPage: 3,
          count: UInt32(truncatingIfNeeded: references.count + 2)
        ),
      ])
    var packed = unsafe BatchPacker().pack(batch, pages.span.bytes, effort, mayRefer: true) {
      index, _, target in
      guard references.indices.contains(index) else { return nil }
      for place in target.indices { unsafe target[place] = place % 256 < 8 ? 0x5A : 0 }
      return references[index]
    }
    if !packed.heldIdentities.isEmpty { packed.prove(identity) }
    var frame: [UInt8] = []
    packed.header.encode(into: &frame)
    frame += packed.lead
    for page in packed.rawPages { frame += pages[page * Page.size..<(page + 1) * Page.size] }
    return frame
  }

  private static func frame(_ first: UInt8, _ encode: (inout [UInt8]) -> Void) -> [UInt8] {
    var bytes = [first]
    encode(&bytes)
    return bytes
  }

  /// What is at `Fuzz/corpus/TARGET/seed-NAME`.
  private func seed(_ target: String, _ name: String, _ made: [UInt8]) throws -> [UInt8] {
    let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "Fuzz/corpus/\(target)/seed-\(name)")
    if ProcessInfo.processInfo.environment["UPDATE_GOLDEN"] == "1" {
      try Data(made).write(to: file)
    }
    return [UInt8](try Data(contentsOf: file))
  }

  static let references: [(name: String, kinds: [PageKind], made: [PageReference])] = [
    ("delta", [.delta], [.delta(check: 1)]), ("duplicate", [.duplicate], [.duplicate(duplicate)]),
    ("held", [.held, .held], [.held(proof: identity), .held(proof: identity)]),
    ("disk", [.disk], [.disk(disk)]), ("gang", [.gang], [.gang(gang)]),
    ("vault", [.vault], [.vault(vault)]),
    (
      "all", [.delta, .duplicate, .held, .disk, .gang, .vault],
      [
        .delta(check: 1), .duplicate(duplicate), .held(proof: identity), .disk(disk), .gang(gang),
        .vault(vault),
      ]
    ),
  ]

  /// Not compared byte for byte: another zstd packs in another way.
  @Test(arguments: references.indices, [Effort.lz4, .zstd1]) func pagesMadeOfWhatIsThere(
    index: Int, effort: Effort
  ) throws {
    let (name, kinds, made) = Self.references[index]
    let bytes = try seed(
      "encoded-pages", "\(name)-\(effort == .lz4 ? "lz4" : "zstd")", Self.encodedPages(made, effort)
    )
    var cursor = unsafe ByteCursor(bytes.span.bytes)
    let header = try EncodedHeader(decoding: &cursor)
    #expect(header.kinds == kinds + [.compressed, .raw])
    var pages = [UInt8](repeating: 0, count: header.kinds.count * Page.size)
    let found = try unsafe pages.withUnsafeMutableBytes { target in
      try unsafe BatchUnpacker().unpack(
        header, bytes.span.bytes.extracting(header.byteCount...), into: target)
    }
    #expect(found.map(\.reference) == made)
    #expect(EncodedPagesHarness.run(bytes) == nil)
  }

  @Test func framesOfAPull() throws {
    let heat = PullHeat(block: 1, heat: 5, runs: [3..<9, 9..<10, 4000..<4100])
    let identities = PullIdentities(
      block: 0, firstPage: 77,
      identities: [.unknown, .held(Self.identity), .disk(Self.disk), .vault(Self.vault)])
    let stored = PullIdentities(
      block: 0, firstPage: 0, identities: [PullIdentity](repeating: .vault(Self.vault), count: 16))
    // Without a codec, so that it is the same with every version of one.
    let packed = Self.frame(195) { bytes in
      EncodedHeader(
        batch: BatchHeader(
          place: SequencedHeader(sequence: 1, after: 0),
          runs: [
            PageRun(block: 0, pageClass: .zero, firstPage: 0, count: 9),
            PageRun(block: 1, pageClass: .raw, firstPage: 4, count: 2),
          ]), codec: .none, kinds: [.uniform, .raw], packedByteCount: 0
      ).encode(into: &bytes)
      bytes.appendBE(UInt64(0x1122_3344_5566_7788))
      bytes += (0..<Page.size).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    }
    for (name, made) in [
      ("heat", Self.frame(129, heat.encode)), ("identities", Self.frame(128, identities.encode)),
      ("identities-stored", Self.frame(128, stored.encode)), ("packed", packed),
    ] {
      #expect(try seed("pull-frames", name, made) == made)
      #expect(PullFrameHarness.run(made) == nil)
    }
  }

  @Test func framesBesideTheBatches() throws {
    let places = [PagePlace(block: 0, page: 9), PagePlace(block: 3, page: 1 << 40)]
    let request = PageRequestFrame(sequence: 12, places: places)
    let answer = PageAnswerFrame(
      sequence: 12, places: [places[0]], bytes: [UInt8](repeating: 7, count: Page.size))
    for (name, made) in [
      ("page-request", Self.frame(128, request.encode)),
      ("page-answer", Self.frame(131, answer.encode)),
      ("probe-mark", Self.frame(130, ProbeMark(number: 1, receivedBytes: 2, atUs: 3).encode)),
      ("heartbeat", Self.frame(129, Heartbeat(receivedThrough: 44).encode)),
    ] {
      #expect(try seed("wire-frames", name, made) == made)
      #expect(WireFrameHarness.run(made) == nil)
    }
  }
}
