import Base
import Compaction
import Foundation
import HostIO
import QEMUStream
import TestSupport
import Testing
import Wire

@testable import Agent

/// Pages that a vault holds at other places, or in another guest's snapshot.
@Suite(.serialized, .timeLimit(.minutes(5))) struct ElsewhereRelayTests {
  static let pageCount = 240
  static let block = RAMBlock(name: "mem0", length: UInt64(pageCount) << 12)

  /// What the guest that moves holds: a quarter of it stayed where it was, a quarter moved within the guest, a quarter
  /// is another guest's, and the rest is nowhere.
  static func content(_ page: Int) -> [UInt8] {
    switch page % 4 {
    case 0: KeptGuest.content(page, seed: 1)
    case 1: KeptGuest.content((page + 202) % pageCount, seed: 1)
    case 2: KeptGuest.content((page * 7) % pageCount, seed: 2)
    default: KeptGuest.content(page, seed: 3)
    }
  }

  /// A vault with a snapshot of the guest and one of another, and what both ends know of it.
  struct Shelf {
    let guest: KeptGuest
    let held: HeldPages
    let snapshot: HeldSnapshot
    let vault: HeldVault
    /// Files of the two.
    let paths: [String]
    /// Others that a page was made of.
    let used: Guarded<[VaultID]>

    /// - Parameters:
    ///   - wanted: snapshots beside the own.
    ///   - isSealed: they are, with the host's key.
    init(
      inPlace: Bool, wanted: Int = 1, byteLimit: UInt64 = 1 << 20, isSealed: Bool = false
    ) throws {
      let guest = try KeptGuest([ElsewhereRelayTests.block])
      let (key, all) = (guest.folder + "/key", 0..<ElsewhereRelayTests.pageCount)
      try SmallFile.write([UInt8](repeating: 7, count: 32), to: key, mode: 0o600)
      let vault = Vault(
        directory: guest.folder + "/state/vault", quotaBytes: 1 << 30,
        keyFile: isSealed ? key : nil)
      let secret = try vault.secret()
      try guest.fill(all, seed: 2)
      try guest.keep(in: vault, guest: "web-2", uuid: "u-2")
      try guest.fill(all, seed: 1)
      try guest.keep(in: vault)
      for page in all {
        try ElsewhereRelayTests.content(page).withUnsafeBytes {
          try guest.files[0].write($0, at: UInt64(page) << 12)
        }
      }
      let own = try #require(vault.newest(guest: "web-1", uuid: "u-1"))
      let others = vault.others(
        guest: "web-1", sharing: [ShareRule(group: "web", vms: ["web-*"])], than: own.id, limit: 4)
      #expect(others.map { $0.head?.guest } == ["web-2"])
      let snapshot = try HeldSnapshot(path: own.path, secret: secret)
      let offer = try #require(PeerMessage.SnapshotOffer(own))
      let further = others.compactMap { PeerMessage.FurtherSnapshot($0) }
      let references = try #require(
        VaultReferences(offer, Array(further.prefix(wanted)), byteLimit: byteLimit))
      let held = HeldPages(
        offer, readable: ["mem0"], inPlace: inPlace ? ["mem0"] : [], elsewhere: references)
      let files = try others.prefix(references.furtherCount).map {
        try SnapshotFile(path: $0.path, secret: secret)
      }
      let used = Guarded<[VaultID]>([])
      let kept = HeldVault(snapshot, others: files) { id in used.update { $0.append(id) } }
      try snapshot.tell(with: kept) { (frame) throws(RelayFailure) in
        var payload: [UInt8] = []
        frame.encode(into: &payload)
        try held.arrived(payload)
      }
      #expect(held.isComplete)
      (self.guest, self.held, self.snapshot, self.vault) = (guest, held, snapshot, kept)
      (self.paths, self.used) = ([own.path] + others.map(\.path), used)
    }
  }

  private func move(
    _ shelf: Shelf, inPlace: Bool, over wire: FlakyWire? = nil
  ) throws -> (SendQueue.Counters, refetched: UInt64) {
    let target = try MemoryFile(byteCount: Int(Self.block.length), sealed: true)
    let file = try SharedFile(
      path: target.path, offset: 0, length: Self.block.length, writable: true)
    var plan = try #require(CompactionPlan(.zstd, threads: 2))
    (plan.memoryBytes, plan.answerableBlocks) = (16 << 20, ["mem0"])
    if inPlace { plan.readableBlocks = ["mem0"] }
    var reconnect: (@Sendable () throws -> (StreamSocket, StreamSocket))?
    if let wire { reconnect = { try wire.connect() } }
    let rig = try RelayRig(
      laneCount: 3, sourceShared: ["mem0": shelf.guest.files[0]],
      destinationShared: inPlace ? ["mem0": file] : [:], compaction: plan, held: shelf.held,
      snapshot: shelf.snapshot, vault: shelf.vault, reconnect: reconnect)
    defer { rig.stop() }
    let collector = Collector(rig.destination.qemu)
    rig.feed(HeldRelayTests.stream(pages: Self.pageCount), closing: false).join()
    let image = try rig.image(collector)
    var page = [UInt8](repeating: 0, count: Page.size)
    var differing = 0
    for number in 0..<Self.pageCount {
      if inPlace {
        try page.withUnsafeMutableBytes { try file.read(at: UInt64(number) << 12, into: $0) }
      } else {
        page = image.pages[.init(block: 0, page: number)] ?? []
      }
      if page != Self.content(number) { differing += 1 }
    }
    #expect(differing == 0)
    return (rig.source.queue.snapshot.counters, rig.source.refetchedPages ?? 0)
  }

  @Test(arguments: [true, false]) func onlyWhatIsNowhereIsSent(inPlace: Bool) throws {
    let shelf = try Shelf(inPlace: inPlace)
    let (counters, refetched) = try move(shelf, inPlace: inPlace)
    #expect(counters.heldPages == 60 && counters.rawPages == 60, "\(counters)")
    #expect(counters.vaultPages == 120 && counters.pages == 240 && refetched == 0, "\(counters)")
    #expect(counters.wireBytes < 60 * 4096 + 120 * 64 + 32768, "\(counters.wireBytes)")
    // The other's snapshot earned something.
    #expect(shelf.used.read { $0.count } == 1)
  }

  @Test func sealedSnapshotsAreReadToo() throws {
    let shelf = try Shelf(inPlace: true, isSealed: true)
    let (counters, refetched) = try move(shelf, inPlace: true)
    #expect(counters.vaultPages == 120 && counters.heldPages == 60 && refetched == 0, "\(counters)")
  }

  /// Without the other guest's, what moved within the guest is found all the same.
  @Test(arguments: [true, false]) func theOwnSnapshotAlone(inPlace: Bool) throws {
    let shelf = try Shelf(inPlace: inPlace, wanted: 0)
    let (counters, refetched) = try move(shelf, inPlace: inPlace)
    #expect(counters.heldPages == 60 && counters.vaultPages == 60, "\(counters)")
    #expect(refetched == 0 && shelf.used.read { $0.isEmpty })
  }

  /// Memory for one of the two: the first.
  @Test func memoryBoundsHowManyAreWanted() throws {
    let limit = VaultDirectory.byteCount(pages: 240)
    let shelf = try Shelf(inPlace: true, byteLimit: limit)
    #expect(shelf.held.elsewhere?.furtherCount == 0)
    let (counters, _) = try move(shelf, inPlace: true)
    #expect(counters.vaultPages == 60, "\(counters)")
    let offer = shelf.held.offer
    #expect(VaultReferences(offer, [], byteLimit: limit - 1) == nil)
    let huge = PeerMessage.FurtherSnapshot(seed: 1, storedPages: .max)
    #expect(VaultReferences(offer, [huge], byteLimit: UInt64.max)?.furtherCount == 0)
  }

  /// Bytes of the snapshots changed since: found out before the guest gets them, and fetched.
  @Test(arguments: [true, false]) func damageCostsBandwidthAlone(inPlace: Bool) throws {
    let shelf = try Shelf(inPlace: inPlace)
    for path in shelf.paths {
      var bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
      for place in stride(from: bytes.count / 2, to: bytes.count - 100, by: 4096) {
        bytes[place] ^= 1
      }
      let handle = try FileHandle(forWritingTo: URL(filePath: path))
      try handle.write(contentsOf: Data(bytes))
      try handle.close()
    }
    let (counters, refetched) = try move(shelf, inPlace: inPlace)
    #expect(counters.vaultPages == 120)
    #expect((50...150).contains(refetched), "\(refetched)")
  }

  @Test func snapshotsThatAreCutCostBandwidthAlone() throws {
    let shelf = try Shelf(inPlace: true)
    for path in shelf.paths {
      let handle = try FileHandle(forWritingTo: URL(filePath: path))
      try handle.truncate(atOffset: 1000)
      try handle.close()
    }
    let (counters, refetched) = try move(shelf, inPlace: true)
    #expect(refetched == counters.heldPages + counters.vaultPages, "\(counters)")
    #expect(shelf.used.read { $0.isEmpty })
  }

  @Test(arguments: [1, 4] as [UInt64]) func nothingIsLostWhenLanesBreak(seed: UInt64) throws {
    let wire = FlakyWire(seed: seed, breaks: 8, bytesMax: 12_000, flipsBits: seed > 2)
    let shelf = try Shelf(inPlace: seed % 2 == 0)
    let (counters, refetched) = try move(shelf, inPlace: seed % 2 == 0, over: wire)
    #expect(counters.vaultPages >= 120 && refetched == 0)
    #expect(wire.made > 4, "no connection broke")
  }

  /// Snapshots that turn out to hold something else come to an end as references.
  @Test func referencesThatFailComeToAnEnd() throws {
    let references = try #require(try Shelf(inPlace: true).held.elsewhere)
    func find(_ page: Int, seed: UInt64) -> VaultNote? {
      let content = KeptGuest.content(page, seed: seed)
      return references.find(content.span.bytes)
    }
    for page in 0..<Self.pageCount { #expect(find(page, seed: 1)?.page == UInt64(page)) }
    #expect(find(7, seed: 2)?.snapshot == 1 && find(7, seed: 3) == nil)
    references.noteRefetched(100)
    #expect(find(7, seed: 1) != nil)
    references.noteRefetched(200)
    #expect(find(7, seed: 1) == nil)
  }

  /// A source that names stored pages that were not agreed on, or that are none.
  @Test(
    arguments: [(nil, true), (nil, false), (240, true), (240, false), (5, true)]
      as [(UInt64?, Bool)])
  func whatWasNotAgreedOnIsRefused(page: UInt64?, inPlace: Bool) throws {
    let shelf = try page.map { _ in try Shelf(inPlace: inPlace, wanted: 0) }
    let memory = try MemoryFile(byteCount: Int(Self.block.length), sealed: true)
    let file = try SharedFile(
      path: memory.path, offset: 0, length: Self.block.length, writable: true)
    let rig = try DestinationRig(
      shared: inPlace ? ["mem0": file] : [:], snapshot: shelf?.snapshot, vault: shelf?.vault)
    defer { rig.stop() }
    try rig.relay.setLayout([Self.block], sectionID: 2)
    let header = EncodedHeader(
      batch: BatchHeader(
        place: SequencedHeader(sequence: 1, after: 0),
        runs: [PageRun(block: 0, pageClass: .raw, firstPage: 0, count: 1)]),
      codec: .none, kinds: [.vault], packedByteCount: 0)
    var head: [UInt8] = []
    header.encode(into: &head)
    // Page 5 is there, of a snapshot that nobody wanted.
    VaultNote(
      snapshot: page == 5 ? 1 : 0, page: page ?? 0, identity: [UInt8](repeating: 1, count: 32)
    ).encode(into: &head)
    try FrameSocket(rig.lanes[0]).send(.encodedPages, head)
    let failure = try #require(rig.events.failure())
    #expect("\(failure)".contains(page == nil ? "not agreed on" : "not offered"), "\(failure)")
  }

  /// Filters of further snapshots: only the next pages, and no more than were offered.
  @Test func filtersThatFitNoSnapshotAreRefused() throws {
    func held() throws -> HeldPages {
      let offer = PeerMessage.SnapshotOffer(
        id: String(repeating: "0", count: 32), takenAt: 1, seed: 1,
        blocks: [.init(name: "mem0", pages: 100)], storedPages: 10)
      let further = [PeerMessage.FurtherSnapshot(seed: 2, storedPages: 20)]
      let references = try #require(VaultReferences(offer, further, byteLimit: 1 << 20))
      return HeldPages(offer, readable: ["mem0"], inPlace: [], elsewhere: references)
    }
    func payload(_ block: UInt16, _ first: UInt64, _ count: Int) -> [UInt8] {
      var payload: [UInt8] = []
      SnapshotFilters(
        block: block, isLast: false, firstPage: first,
        filters: (0..<count).map { UInt64($0) + 5 }
      ).encode(into: &payload)
      return payload
    }
    // More than are stored, in the first and in the further one; not the next; none such.
    for bad in [payload(0, 0, 11), payload(1, 0, 21), payload(1, 1, 1), payload(2, 0, 1)] {
      #expect(throws: RelayFailure.self) { try held().arrived(bad) }
    }
    let sound = try held()
    try sound.arrived(payload(1, 0, 15))
    try sound.arrived(payload(0, 90, 10))
    try sound.arrived(payload(1, 15, 5))
    #expect(throws: RelayFailure.self) { try sound.arrived(payload(1, 20, 1)) }
  }

  /// Of a group the others' latest, at most so many; of no group none.
  @Test func onlyGuestsOfAGroupAreFound() throws {
    let guest = try KeptGuest([Self.block])
    try guest.fill(0..<3, seed: 1)
    let vault = guest.vault()
    for name in ["web-1", "web-2", "web-3", "db-1"] {
      try guest.keep(in: vault, guest: name, uuid: name)
    }
    let own = try #require(vault.newest(guest: "web-1", uuid: "web-1"))
    let rules = [ShareRule(group: "web", vms: ["web-*"])]
    func others(_ name: String, _ rules: [ShareRule], limit: Int = 4) -> Set<String?> {
      Set(
        vault.others(guest: name, sharing: rules, than: own.id, limit: limit).map {
          $0.head?.guest
        })
    }
    #expect(others("web-1", rules) == ["web-2", "web-3"])
    #expect(others("web-1", rules, limit: 1).count == 1)
    #expect(others("web-1", []) == [] && others("db-2", rules) == [])
  }
}
