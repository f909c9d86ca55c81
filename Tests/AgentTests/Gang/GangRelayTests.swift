import Base
import Compaction
import Foundation
import HostIO
import QEMUStream
import TestSupport
import Testing
import Wire

@testable import Agent

/// Guests that move one after the other in a gang: what the first brought, the second refers to.
@Suite(.serialized, .timeLimit(.minutes(5))) struct GangRelayTests {
  static let pageCount = 400
  static let block = RAMBlock(name: "mem0", length: UInt64(pageCount) << 12)

  /// Three pages of four are the same in all guests, at other places; the rest is each guest's own.
  static func content(_ page: Int, of guest: Int) -> [UInt8] {
    page % 4 == 3
      ? KeptGuest.content(page, seed: UInt64(100 + guest))
      : KeptGuest.content((page + guest * 40) % pageCount, seed: 1)
  }

  /// Pages that a guest has in common with each other one.
  static let sharedCount: UInt64 = 300

  /// What stays of a guest that was moved.
  struct Moved {
    let memory: SharedFile
    let counters: SendQueue.Counters
    let refetched: UInt64
  }

  let gang = Gang(byteLimit: 16 << 20)
  let guests = GangGuests()

  /// - Parameters:
  ///   - inPlace: the destination writes memory itself; otherwise through QEMU's stream, and others can't refer to it.
  ///   - snapshot: of some of its pages, at the destination, where it can't be read any more.
  private func move(
    _ guest: Int, inPlace: Bool = true, snapshot: (HeldPages, HeldSnapshot)? = nil,
    over wire: FlakyWire? = nil
  ) throws -> Moved {
    let member = try #require(gang.join())
    let length = Self.block.length
    let memories = try (0..<2).map { _ in try MemoryFile(byteCount: Int(length), sealed: true) }
    let files = try memories.map {
      try SharedFile(path: $0.path, offset: 0, length: length, writable: true)
    }
    for page in 0..<Self.pageCount {
      try Self.content(page, of: guest).withUnsafeBytes {
        try files[0].write($0, at: UInt64(page) << 12)
      }
    }
    var plan = try #require(CompactionPlan(.lz4, threads: 2))
    (plan.memoryBytes, plan.gang) = (16 << 20, member)
    plan.answerableBlocks = ["mem0"]
    if inPlace { (plan.readableBlocks, plan.gangBlocks) = (["mem0"], ["mem0"]) }
    var reconnect: (@Sendable () throws -> (StreamSocket, StreamSocket))?
    if let wire { reconnect = { try wire.connect() } }
    let rig = try RelayRig(
      laneCount: 3, sourceShared: ["mem0": files[0]],
      destinationShared: inPlace ? ["mem0": files[1]] : [:], compaction: plan,
      held: snapshot?.0, snapshot: snapshot?.1,
      gang: HeldGang(guests: guests, token: gang.token), reconnect: reconnect)
    defer { rig.stop() }
    if inPlace {
      let key = GangGuests.Key(token: gang.token, member: member.number)
      #expect(guests.expect(key))
      guests.add(key, [.shared(files[1])])
    }
    let collector = Collector(rig.destination.qemu)
    rig.feed(HeldRelayTests.stream(pages: Self.pageCount), closing: false).join()
    let image = try rig.image(collector)
    var page = [UInt8](repeating: 0, count: Page.size)
    var differing = 0
    for number in 0..<Self.pageCount {
      if inPlace {
        try page.withUnsafeMutableBytes { try files[1].read(at: UInt64(number) << 12, into: $0) }
      } else {
        page = image.pages[.init(block: 0, page: number)] ?? []
      }
      if page != Self.content(number, of: guest) { differing += 1 }
    }
    #expect(differing == 0)
    // The last acknowledgement may come after the last page.
    for _ in 0..<6000 where rig.source.queue.snapshot.inFlight > 0 {
      MonotonicClock.sleep(us: 10_000)
    }
    return Moved(
      memory: files[1], counters: rig.source.queue.snapshot.counters,
      refetched: rig.source.refetchedPages ?? 0)
  }

  @Test(arguments: [true, false]) func whatTheFirstBroughtIsReferredTo(inPlace: Bool) throws {
    let first = try move(0)
    #expect(first.counters.gangPages == 0 && first.refetched == 0)
    let second = try move(1, inPlace: inPlace)
    #expect(second.counters.gangPages == Self.sharedCount, "\(second.counters)")
    #expect(second.refetched == 0)
    #expect(second.counters.wireBytes < 100 * 4096 + Self.sharedCount * 64 + 16384)
    let third = try move(2)
    #expect(third.counters.gangPages == Self.sharedCount && third.refetched == 0)
  }

  /// The first guest runs at the destination, and writes: what it no longer holds is fetched.
  @Test(arguments: [true, false]) func aGuestThatHasWrittenCostsBandwidthAlone(inPlace: Bool) throws
  {
    let first = try move(0)
    for page in stride(from: 0, to: Self.pageCount, by: 2) {
      try KeptGuest.content(page, seed: 9).withUnsafeBytes {
        try first.memory.write($0, at: UInt64(page) << 12)
      }
    }
    let second = try move(1, inPlace: inPlace)
    // Of the pages in common every other one, and those at multiples of 4, are even.
    #expect(second.counters.gangPages == Self.sharedCount && second.refetched == 200)
    // What failed once isn't referred to again.
    let third = try move(2)
    #expect(third.counters.gangPages == 100 && third.refetched == 0)
  }

  /// Pages that a snapshot was said to hold are no fault of the gang's.
  @Test func whatOthersMissCostsTheGangNothing() throws {
    _ = try move(0)
    let kept = try KeptGuest([Self.block])
    for page in 0..<100 {
      try Self.content(page, of: 1).withUnsafeBytes {
        try kept.files[0].write($0, at: UInt64(page) << 12)
      }
    }
    let vault = kept.vault()
    try kept.keep(in: vault)
    let entry = try #require(vault.newest(guest: "web-1", uuid: "u-1"))
    let snapshot = try HeldSnapshot(path: entry.path)
    let held = HeldPages(
      try #require(PeerMessage.SnapshotOffer(entry)), readable: ["mem0"], inPlace: ["mem0"])
    try snapshot.tell { (frame) throws(RelayFailure) in
      var payload: [UInt8] = []
      frame.encode(into: &payload)
      try held.arrived(payload)
    }
    let handle = try FileHandle(forWritingTo: URL(filePath: entry.path))
    try handle.truncate(atOffset: 1000)
    try handle.close()
    let second = try move(1, snapshot: (held, snapshot))
    #expect(second.counters.heldPages == 100 && second.refetched == 100, "\(second.counters)")
    // What is in common with the first guest is looked for as before.
    let third = try move(2)
    #expect(third.counters.gangPages == Self.sharedCount && third.refetched == 0)
  }

  /// The first guest writes while the second comes; no page may be wrong.
  @Test(arguments: [1, 2] as [UInt64]) func aGuestWritesMeanwhile(seed: UInt64) throws {
    let first = try move(0)
    let isOver = Guarded(false)
    let writer = WorkerThread("test-writer") {
      var random = SplitMix64(seed: seed)
      while !isOver.read({ $0 }) {
        let page = Int(random.next() % UInt64(Self.pageCount))
        let content =
          random.next() % 2 == 0
          ? Self.content(page, of: 0) : KeptGuest.content(page, seed: 8)
        content.withUnsafeBytes { _ = try? first.memory.write($0, at: UInt64(page) << 12) }
      }
    }
    defer {
      isOver.update { $0 = true }
      writer.join()
    }
    let second = try move(1, inPlace: seed == 1)
    #expect(second.counters.gangPages > 0)
  }

  /// The first guest is gone from the destination: everything is fetched.
  @Test func aGuestThatLeftCostsBandwidthAlone() throws {
    _ = try move(0)
    guests.remove(.init(token: gang.token, member: 0))
    let second = try move(1)
    #expect(second.counters.gangPages > 0 && second.refetched == second.counters.gangPages)
  }

  @Test(arguments: [1, 3] as [UInt64]) func nothingIsLostWhenLanesBreak(seed: UInt64) throws {
    _ = try move(0)
    let wire = FlakyWire(seed: seed, breaks: 12, bytesMax: 30_000, flipsBits: seed > 2)
    let second = try move(1, inPlace: seed == 1, over: wire)
    #expect(second.counters.gangPages >= Self.sharedCount && second.refetched == 0)
    #expect(wire.made > 4, "no connection broke")
  }

  /// Guests of another gang, or of none, are nobody's.
  @Test func otherGangsAreNotReferredTo() throws {
    let memory = try MemoryFile(byteCount: 1 << 20, sealed: true)
    let file = try SharedFile(path: memory.path, offset: 0, length: 1 << 20, writable: true)
    let content = KeptGuest.content(1, seed: 1)
    try content.withUnsafeBytes { try file.write($0, at: 4096) }
    let key = GangGuests.Key(token: gang.token, member: 3)
    #expect(guests.expect(key))
    guests.add(key, [nil, .shared(file)])
    let note = GangNote(
      member: 3, block: 1, page: 1, identity: PageIdentity.bytes(of: content.span.bytes))
    func missing(_ token: MigrationID, _ note: GangNote) -> [Int] {
      let pages = PageBuffer(byteCount: 2 * Page.size)
      return HeldGang(guests: guests, token: token).resolve([(1, .gang(note))], in: pages)
    }
    #expect(missing(gang.token, note).isEmpty)
    #expect(missing(MigrationID(high: 1, low: 2), note) == [1])
    for (member, block, page) in [(2, 1, 1), (3, 0, 1), (3, 2, 1), (3, 1, 256), (3, 1, 2)]
      as [(UInt16, UInt16, UInt64)]
    {
      let other = GangNote(member: member, block: block, page: page, identity: note.identity)
      #expect(missing(gang.token, other) == [1], "\(member) \(block) \(page)")
    }
  }

  @Test(arguments: [true, false]) func pagesOfAGangThatWasNotAgreedOnAreRefused(isInPlace: Bool)
    throws
  {
    let memory = try MemoryFile(byteCount: 1 << 20, sealed: true)
    let file = try SharedFile(path: memory.path, offset: 0, length: 1 << 20, writable: true)
    let rig = try DestinationRig(shared: isInPlace ? ["mem0": file] : [:])
    defer { rig.stop() }
    try rig.relay.setLayout([RAMBlock(name: "mem0", length: 1 << 20)], sectionID: 2)
    let run = PageRun(block: 0, pageClass: .raw, firstPage: 0, count: 1)
    let header = EncodedHeader(
      batch: BatchHeader(place: SequencedHeader(sequence: 1, after: 0), runs: [run]),
      codec: .none, kinds: [.gang], packedByteCount: 0)
    var head: [UInt8] = []
    header.encode(into: &head)
    GangNote(member: 0, block: 0, page: 0, identity: [UInt8](repeating: 1, count: 32))
      .encode(into: &head)
    try FrameSocket(rig.lanes[0]).send(.encodedPages, head)
    let failure = try #require(rig.events.failure())
    #expect("\(failure)".contains("not agreed on"), "\(failure)")
  }
}
