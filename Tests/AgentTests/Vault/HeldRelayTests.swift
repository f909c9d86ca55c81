import Base
import Compaction
import Foundation
import HostIO
import QEMUStream
import TestSupport
import Testing
import Wire

@testable import Agent

/// Pages that the destination takes from a snapshot of the guest, and what happens when that is not what it was.
@Suite(.serialized, .timeLimit(.minutes(5))) struct HeldRelayTests {
  static let pageCount = 600
  static let block = RAMBlock(name: "mem0", length: UInt64(pageCount) << 12)
  /// Pages that the guest has written since it was kept.
  static let changed = stride(from: 0, to: pageCount, by: 50)

  static func stream(pages pageCount: Int = Self.pageCount) -> [UInt8] {
    var stream = SyntheticStream(
      blocks: [RAMBlock(name: "mem0", length: UInt64(pageCount) << 12)])
    stream.part { writer, out in
      for page in 0..<pageCount {
        writer.pageHeader(block: 0, offset: UInt64(page) << 12, into: &out)
        out += SyntheticStream.page
      }
    }
    stream.ramEnd()
    stream.device("timer", [1, 2, 3])
    StreamItemWriter.end(description: SyntheticStream.description, into: &stream.bytes)
    return stream.bytes
  }

  /// Keeps a guest, lets it write, and moves it to where the snapshot is.
  ///
  /// - Parameters:
  ///   - isInPlace: the destination writes memory itself; otherwise through QEMU's stream.
  ///   - spoil: gets the snapshot's file once the source knows what is in it.
  private func move(
    isInPlace: Bool, over wire: FlakyWire? = nil, spoil: (String) throws -> Void = { _ in }
  ) throws -> (SendQueue.Counters, refetched: UInt64?) {
    let guest = try KeptGuest([Self.block])
    try guest.fill(0..<Self.pageCount, seed: 1)
    let vault = guest.vault()
    try guest.keep(in: vault)
    try guest.fill(Self.changed, seed: 2)

    let entry = try #require(vault.newest(guest: "web-1", uuid: "u-1"))
    let snapshot = try HeldSnapshot(path: entry.path)
    let held = HeldPages(
      try #require(PeerMessage.SnapshotOffer(entry)), readable: ["mem0"],
      inPlace: isInPlace ? ["mem0"] : [])
    try snapshot.tell { (frame) throws(RelayFailure) in
      var payload: [UInt8] = []
      frame.encode(into: &payload)
      try held.arrived(payload)
    }
    held.waitUntilComplete(timeoutMs: 60_000)
    try spoil(entry.path)

    let target = try MemoryFile(byteCount: Int(Self.block.length), sealed: true)
    let file = try SharedFile(
      path: target.path, offset: 0, length: Self.block.length, writable: true)
    var reconnect: (@Sendable () throws -> (StreamSocket, StreamSocket))?
    if let wire { reconnect = { try wire.connect() } }
    let rig = try RelayRig(
      laneCount: 3, sourceShared: ["mem0": guest.files[0]],
      destinationShared: isInPlace ? ["mem0": file] : [:],
      compaction: CompactionPlan(.zstd, threads: 2), held: held,
      snapshot: snapshot, reconnect: reconnect)
    defer { rig.stop() }
    let collector = Collector(rig.destination.qemu)
    rig.feed(Self.stream(), closing: false).join()
    let image = try rig.image(collector)
    var page = [UInt8](repeating: 0, count: Page.size)
    var differing = 0
    for number in 0..<Self.pageCount {
      if isInPlace {
        try page.withUnsafeMutableBytes { try file.read(at: UInt64(number) << 12, into: $0) }
      } else {
        page = image.pages[.init(block: 0, page: number)] ?? []
      }
      let seed: UInt64 = Self.changed.contains(number) ? 2 : 1
      if page != KeptGuest.content(number, seed: seed) { differing += 1 }
    }
    #expect(differing == 0)
    return (rig.source.queue.snapshot.counters, rig.source.refetchedPages)
  }

  @Test(arguments: [true, false]) func onlyWhatChangedIsSent(isInPlace: Bool) throws {
    let (counters, refetched) = try move(isInPlace: isInPlace)
    #expect(counters.heldPages == 588 && counters.rawPages == 12, "\(counters)")
    #expect(refetched == 0)
    // Random pages: what is held costs next to nothing.
    #expect(counters.wireBytes < 12 * 4096 + 100_000, "\(counters.wireBytes)")
  }

  /// A page of the snapshot is not what it was: found out before a guest gets it, and fetched.
  @Test(arguments: [true, false]) func aDamagedSnapshotCostsBandwidthAlone(isInPlace: Bool) throws {
    let (counters, refetched) = try move(isInPlace: isInPlace) { path in
      var bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
      for place in stride(from: bytes.count / 2, to: bytes.count - 100, by: 4096) {
        bytes[place] ^= 1
      }
      // In place: the file is open already.
      let handle = try FileHandle(forWritingTo: URL(filePath: path))
      try handle.write(contentsOf: Data(bytes))
      try handle.close()
    }
    // Or fewer: the source may hear of 256 that were not there in time to stop naming them.
    #expect((256...588).contains(counters.heldPages), "\(counters)")
    let count = try #require(refetched)
    #expect((128..<588).contains(count), "\(count)")
  }

  @Test(arguments: [true, false]) func aSnapshotThatIsCutCostsBandwidthAlone(isInPlace: Bool) throws
  {
    let (counters, refetched) = try move(isInPlace: isInPlace) { path in
      let handle = try FileHandle(forWritingTo: URL(filePath: path))
      try handle.truncate(atOffset: 1000)
      try handle.close()
    }
    #expect(refetched == counters.heldPages && counters.heldPages >= 256, "\(counters)")
  }

  /// A snapshot whose pages are not there is named no more, once that shows.
  @Test func whatIsNotThereIsGivenUp() throws {
    let pages = 2000
    let offer = PeerMessage.SnapshotOffer(
      id: String(repeating: "0", count: 32), takenAt: 1, seed: 1,
      blocks: [.init(name: "mem0", pages: UInt64(pages))], storedPages: UInt64(pages))
    let held = HeldPages(offer, readable: ["mem0"], inPlace: [])
    let content = [UInt8](repeating: 7, count: Page.size)
    let hash = unsafe SentMemory.hash(content.span.bytes, seed: 1)
    var payload: [UInt8] = []
    SnapshotFilters(
      block: 0, isLast: true, firstPage: 0, filters: [UInt64?](repeating: hash, count: pages)
    ).encode(into: &payload)
    try held.arrived(payload)
    let run = PageRun(block: 0, pageClass: .raw, firstPage: 0, count: 100)
    let blocks = [RAMBlock(name: "mem0", length: UInt64(pages) << 12)]
    func isNamed() -> Bool { held.filters(of: [run], blocks).contains { $0 != 0 } }
    func name(_ count: Int) {
      for _ in 0..<count {
        #expect(unsafe held.identity(of: content.span.bytes, filter: hash) != nil)
      }
    }
    name(1024)
    held.noteRefetched(255)
    #expect(isNamed())
    held.noteRefetched(1)
    #expect(!isNamed())
    // Fewer than a quarter of those that were named: it still pays.
    name(1)
    #expect(isNamed())
  }

  @Test(arguments: [1, 2, 3, 4] as [UInt64]) func nothingIsLostWhenLanesBreak(seed: UInt64) throws {
    let wire = FlakyWire(seed: seed, breaks: 8, bytesMax: 12_000, flipsBits: seed > 2)
    let (counters, refetched) = try move(isInPlace: seed % 2 == 0, over: wire)
    #expect(counters.heldPages == 588)
    #expect(refetched == 0)
    #expect(wire.made > 4, "no connection broke")
  }

  /// A source that names what no snapshot was agreed on for.
  @Test(arguments: [true, false]) func heldPagesThatWereNotAgreedOnAreRefused(isInPlace: Bool)
    throws
  {
    let memory = try MemoryFile(byteCount: Int(Self.block.length), sealed: true)
    let file = try SharedFile(
      path: memory.path, offset: 0, length: Self.block.length, writable: true)
    let rig = try DestinationRig(shared: isInPlace ? ["mem0": file] : [:])
    defer { rig.stop() }
    try rig.relay.setLayout([Self.block], sectionID: 2)
    let header = EncodedHeader(
      batch: BatchHeader(
        place: SequencedHeader(sequence: 1, after: 0),
        runs: [PageRun(block: 0, pageClass: .raw, firstPage: 0, count: 1)]),
      codec: .none, kinds: [.held], packedByteCount: 0)
    var head: [UInt8] = []
    header.encode(into: &head)
    head += [UInt8](repeating: 1, count: 32)
    try FrameSocket(rig.lanes[0]).send(.encodedPages, head)
    let failure = try #require(rig.events.failure())
    #expect("\(failure)".contains("not agreed on"), "\(failure)")
  }

  /// Filters of pages that the offered snapshot does not have, or that come twice.
  @Test func filtersThatFitNoSnapshotAreRefused() throws {
    func held() -> HeldPages {
      HeldPages(
        PeerMessage.SnapshotOffer(
          id: String(repeating: "0", count: 32), takenAt: 1, seed: 1,
          blocks: [.init(name: "mem0", pages: 100)], storedPages: 10),
        readable: ["mem0"], inPlace: [])
    }
    func payload(_ block: UInt16, _ first: UInt64, _ count: Int, isLast: Bool = false) -> [UInt8] {
      var payload: [UInt8] = []
      SnapshotFilters(
        block: block, isLast: isLast, firstPage: first,
        filters: [UInt64?](repeating: 5, count: count)
      ).encode(into: &payload)
      return payload
    }
    // The last: of no pages, and not the end.
    for bad in [
      payload(1, 0, 1), payload(0, 100, 1), payload(0, 50, 51), [1, 2, 3], payload(0, 0, 0),
    ] {
      #expect(throws: RelayFailure.self) { try held().arrived(bad) }
    }
    let twice = held()
    try twice.arrived(payload(0, 10, 20))
    #expect(throws: RelayFailure.self) { try twice.arrived(payload(0, 29, 1)) }
    let late = held()
    try late.arrived(payload(0, 0, 0, isLast: true))
    late.waitUntilComplete(timeoutMs: 60_000)
    #expect(throws: RelayFailure.self) { try late.arrived(payload(0, 0, 1)) }
  }
}
