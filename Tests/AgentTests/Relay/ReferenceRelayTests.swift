import Base
import Compaction
import HostIO
import QEMUStream
import TestSupport
import Testing
import Wire

@testable import Agent

/// Pages made of what the destination has already: deltas and duplicates, and what happens when it has something
/// else.
@Suite(.serialized, .timeLimit(.minutes(5))) struct ReferenceRelayTests {
  static let pageCount = 400
  static let block = RAMBlock(name: "mem0", length: UInt64(pageCount) << 12)

  /// Every fifth page of the second half is the same as one of the first; the version changes a few bytes of
  /// each.
  static func content(_ page: Int, version: UInt8) -> [UInt8] {
    let source = page >= 200 && page % 5 == 4 ? page - 200 : page
    var random = SplitMix64(seed: UInt64(source))
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Page.size)
    while bytes.count < Page.size { bytes.appendBE(random.next() & 0x0F0F_0F0F_0F0F_0F0F) }
    bytes[source % Page.size] = version
    bytes[4000] = version
    return bytes
  }

  /// All pages are mentioned, then, from `cut` on, all of them again.
  static func stream() -> (bytes: [UInt8], cut: Int) {
    var stream = SyntheticStream(blocks: [block])
    var cut = 0
    for _ in 0..<2 {
      cut = stream.bytes.count
      stream.part { writer, out in
        for page in 0..<pageCount {
          writer.pageHeader(block: 0, offset: UInt64(page) << 12, into: &out)
          out += SyntheticStream.page
        }
      }
    }
    stream.ramEnd()
    stream.device("timer", [1, 2, 3])
    StreamItemWriter.end(description: SyntheticStream.description, into: &stream.bytes)
    return (stream.bytes, cut)
  }

  static func fill(_ memory: SharedFile, version: UInt8) throws {
    for page in 0..<pageCount {
      try content(page, version: version).withUnsafeBytes {
        try memory.write($0, at: UInt64(page) << 12)
      }
    }
  }

  /// Waits until everything that was mentioned is applied at the destination.
  static func waitUntilApplied(_ rig: RelayRig, pages: UInt64) {
    for _ in 0..<1200 {
      let flow = rig.source.queue.snapshot
      if flow.counters.pages >= pages, flow.inFlight == 0, flow.queued == 0 { return }
      MonotonicClock.sleep(us: 50_000)
    }
  }

  static func differing(_ memory: SharedFile, version: UInt8) throws -> Int {
    var count = 0
    var page = [UInt8](repeating: 0, count: Page.size)
    for number in 0..<pageCount {
      try page.withUnsafeMutableBytes { try memory.read(at: UInt64(number) << 12, into: $0) }
      if page != content(number, version: version) { count += 1 }
    }
    return count
  }

  struct Ends {
    let memories: [MemoryFile]
    let files: [SharedFile]

    init() throws {
      memories = try (0..<2).map { _ in
        try MemoryFile(byteCount: Int(ReferenceRelayTests.block.length), sealed: true)
      }
      files = try memories.map {
        try SharedFile(
          path: $0.path, offset: 0, length: ReferenceRelayTests.block.length, writable: true)
      }
    }
  }

  static func plan(threads: Int) throws -> CompactionPlan {
    var plan = try #require(CompactionPlan(.zstd, threads: threads))
    (plan.readableBlocks, plan.memoryBytes) = (["mem0"], 16 << 20)
    return plan
  }

  /// Moves both versions; `between` is called once the first is there.
  private func move(
    laneCount: Int, threads: Int = 3, over wire: FlakyWire? = nil,
    between: (SharedFile) throws -> Void = { _ in }
  ) throws -> (SendQueue.Counters, refetched: UInt64?) {
    let ends = try Ends()
    try Self.fill(ends.files[0], version: 1)
    let (bytes, cut) = Self.stream()
    var reconnect: (@Sendable () throws -> (StreamSocket, StreamSocket))?
    if let wire { reconnect = { try wire.connect() } }
    let rig = try RelayRig(
      laneCount: laneCount, sourceShared: ["mem0": ends.files[0]],
      destinationShared: ["mem0": ends.files[1]], compaction: try Self.plan(threads: threads),
      reconnect: reconnect)
    defer { rig.stop() }
    let collector = Collector(rig.destination.qemu)
    rig.feed(Array(bytes[..<cut]), closing: false).join()
    Self.waitUntilApplied(rig, pages: UInt64(Self.pageCount))
    #expect(try Self.differing(ends.files[1], version: 1) == 0)
    try between(ends.files[1])
    try Self.fill(ends.files[0], version: 2)
    rig.feed(Array(bytes[cut...]), closing: false).join()
    // The tail is behind everything, so every page is in place.
    #expect(try rig.image(collector).pages.isEmpty)
    #expect(try Self.differing(ends.files[1], version: 2) == 0)
    return (rig.source.queue.snapshot.counters, rig.source.refetchedPages)
  }

  @Test(arguments: [1, 4]) func deltasAndDuplicates(laneCount: Int) throws {
    let (counters, refetched) = try move(laneCount: laneCount, threads: 1)
    #expect(counters.deltaPages + counters.duplicatePages >= 400, "\(counters)")
    #expect(counters.deltaPages > 300, "\(counters)")
    #expect(counters.duplicatePages > 20, "\(counters)")
    #expect(counters.pages == 800)
    #expect(refetched == 0)
  }

  /// Somebody wrote into the destination's memory: what is made of it is found out and fetched.
  @Test(arguments: [1, 4]) func whatTheDestinationHasNotGotIsFetched(laneCount: Int) throws {
    let (_, refetched) = try move(laneCount: laneCount) { memory in
      for page in stride(from: 0, to: Self.pageCount, by: 3) {
        try [0xBA, 0xD0].withUnsafeBytes { try memory.write($0, at: UInt64(page) << 12 + 77) }
      }
    }
    #expect((refetched ?? 0) >= 100, "\(refetched as Any)")
  }

  @Test(arguments: [1, 2, 3, 4] as [UInt64]) func nothingIsLostWhenLanesBreak(seed: UInt64) throws {
    let wire = FlakyWire(seed: seed, breaks: 12, bytesMax: 60_000, flipsBits: seed > 2)
    let (counters, refetched) = try move(laneCount: 3, over: wire)
    #expect(counters.deltaPages > 300, "\(counters)")
    #expect(refetched == 0)
    #expect(wire.made > 4, "no connection broke")
  }

  @Test func referencesThatWereNotAgreedOnAreRefused() throws {
    let rig = try DestinationRig()
    defer { rig.stop() }
    let place = SequencedHeader(sequence: 1, after: 0)
    let run = PageRun(block: 0, pageClass: .raw, firstPage: 0, count: 1)
    let header = EncodedHeader(
      batch: BatchHeader(place: place, runs: [run]), codec: .none, kinds: [.duplicate],
      packedByteCount: 0)
    var head: [UInt8] = []
    header.encode(into: &head)
    DuplicateNote(block: 0, page: 0, identity: [UInt8](repeating: 1, count: 32))
      .encode(into: &head)
    try FrameSocket(rig.lanes[0]).send(.encodedPages, head)
    let failure = try #require(rig.events.failure())
    #expect("\(failure)".contains("not agreed on"), "\(failure)")
  }

  @Test func pagesThatWereNotAskedForAreRefused() throws {
    let rig = try DestinationRig()
    defer { rig.stop() }
    let answer = PageAnswerFrame(
      sequence: 3, places: [PagePlace(block: 0, page: 1)], bytes: SyntheticStream.page)
    var payload: [UInt8] = []
    answer.encode(into: &payload)
    #expect(throws: RelayFailure.self) { try rig.relay.arrived(.pageAnswer, payload) }
  }
}
