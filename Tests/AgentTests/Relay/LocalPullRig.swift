import Base
import Foundation
import HostIO
import QEMUStream
import Strategy
import Testing
import Wire

@testable import Agent

/// A pull between two real QEMUs, with the source's server at one end and the destination's feeder at the other, where
/// the destination has some of the guest's memory.
final class LocalPullRig {
  let pair: PullPair
  let server: PullServer
  let feeder: PullFeeder
  /// Pages that are pulled: those of blocks that can't be read from outside QEMU are sent before.
  let invalid: PageBitmap
  let wireBytes = Guarded<UInt64>(0)
  let events = Events<PullFeeder.Event>()
  private let port: PullPort
  /// The source's ends.
  private let sockets = Guarded<[StreamSocket]>([])

  /// - Parameters:
  ///   - packing: makes pages small; nil: they go as they are.
  ///   - isHeld: only what the guest waits for is given, until `server` is told otherwise.
  init(
    _ pair: PullPair, held: (source: HeldPages, destination: HeldSnapshot)? = nil,
    images: (source: DiskDirectory, destination: HeldImages)? = nil, packing: PullPacking? = nil,
    pacer: PullPacer? = nil,
    isHeld: Bool = false
  ) async throws {
    self.pair = pair
    let (guest, qemu) = (pair.guest, pair.qemu)
    let (name, file) = try await pair.sourceMemory()
    let memory = try await StoppedMemory.open(
      guest.blocks, shared: [name: file], pair.from.client, pid: pair.source.pid)
    let (missing, prologue) = pair.split(memory.isReadable)
    invalid = missing
    let (events, sockets) = (self.events, self.sockets)
    let port = PullPort(onEvent: { _ in }, onFailure: { events.add(.failed($0)) })
    var identifier = PullIdentifier(held: held?.source, disks: images?.source)
    identifier?.blocks = guest.blocks
    let server = PullServer(
      memory: memory, identifier: identifier, packing: packing, pacer: pacer, laneCount: 2,
      recovery: LaneRecovery(
        patienceMs: { 60_000 },
        dial: { _, lane in
          let (near, far) = try Sockets.tcpPair()
          sockets.update { $0.append(near) }
          _ = port.attach(far, lane: lane)
          return near
        }),
      bytesWritten: wireBytes,
      onEvent: { if case .failed(let failure) = $0 { events.add(.failed(failure)) } })
    server.setPrefetching(!isHeld)
    let feeder = try PullFeeder(
      qemu: qemu, blocks: guest.blocks, sectionID: guest.sectionID, invalid: missing,
      local: LocalPages(
        snapshot: held?.destination, images: images?.destination, blocks: guest.blocks),
      ask: { (requests) throws(RelayFailure) in port.ask(requests) },
      onEvent: { event in
        if case .complete(let done) = event { port.finished(done) }
        events.add(event)
      })
    (self.port, self.server, self.feeder) = (port, server, feeder)
    let state = try DeviceState(tail: guest.tail, descriptionLength: guest.descriptionLength)
    try await Blocking.run {
      try server.connect()
      server.start()
      port.begin(feeder)
      try qemu.writeAll(prologue.span.bytes)
      try feeder.start(state, invalid: missing)
    }
  }

  func stop() async throws {
    let (server, port, feeder) = (server, port, feeder)
    try await Blocking.run {
      server.stop()
      port.stop()
      feeder.stop()
    }
  }

  /// The network breaks; the source opens everything anew.
  func cut() {
    for socket in sockets.update({ sockets in
      defer { sockets = [] }
      return sockets
    }) { socket.shutdown() }
  }

  /// What the destination says at the end, once QEMU has taken everything.
  func end() async throws -> PullDone {
    let events = self.events
    let (done, shut) = try await Blocking.run { () -> (PullDone?, UInt32?) in
      let done = events.first(timeoutMs: 60_000) { event -> PullDone?? in
        switch event {
        case .complete(let done): done
        case .failed: .some(nil)
        default: nil
        }
      }
      guard let done = done ?? nil else { return (nil, nil) }
      let shut = events.first(timeoutMs: 60_000) { event -> UInt32? in
        if case .shut(let code) = event { code } else { nil }
      }
      return (done, shut)
    }
    for case .failed(let failure) in events.all { Issue.record("\(failure)") }
    #expect(shut == 0)
    return try #require(done)
  }
}

extension PullPair {
  /// What is pulled where only these blocks can be read, and everything before DISCARD: the others are sent then.
  func split(_ isReadable: [Bool]) -> (invalid: PageBitmap, prologue: [UInt8]) {
    var (missing, bytes) = (invalid, prologue)
    var writer = RAMWriter(sectionID: guest.sectionID, blocks: guest.blocks)
    writer.beginPart(into: &bytes)
    for block in guest.blocks.indices where !isReadable[block] {
      for page in 0..<guest.blocks[block].pageCount {
        let number = guest.numbering.number(block: block, page: page)
        guard missing.remove(number) else { continue }
        let offset = UInt64(page) << 12
        if let content = guest.pages[number] {
          writer.page(block: block, offset: offset, bytes: content.span.bytes, into: &bytes)
        } else {
          writer.zeroPage(block: block, offset: offset, into: &bytes)
        }
      }
    }
    writer.endSection(into: &bytes)
    return (missing, bytes)
  }

  /// Numbers of the pages that `fill` wrote and that are missing at the destination.
  func missingNoise() async throws -> [Int] {
    let name = try await sourceMemory().name
    let block = try #require(guest.blocks.firstIndex { $0.name == name })
    return (8192..<8192 + 4096).map { guest.numbering.number(block: block, page: $0) }
      .filter { invalid[$0] }
  }

  /// The guest has written to these of its pages, which are of its first memory.
  func change(_ pages: [Int]) async throws {
    let (name, file) = try await sourceMemory()
    let block = try #require(guest.blocks.firstIndex { $0.name == name })
    let base = guest.numbering.bases[block]
    try await Blocking.run {
      for page in pages {
        try KeptGuest.content(page, seed: 77).withUnsafeBytes {
          try file.write($0, at: UInt64(page - base) << 12)
        }
      }
    }
  }

  /// Keeps the source's memory in a vault of the destination's.
  ///
  /// - Returns: what each side has of it, and its file.
  func keep(
    in folder: String
  ) async throws -> (held: (source: HeldPages, destination: HeldSnapshot), path: String) {
    let (name, file) = try await sourceMemory()
    let blocks = guest.blocks
    let memory = try await StoppedMemory.open(
      blocks, shared: [name: file], from.client, pid: source.pid)
    return try await Blocking.run {
      let vault = Vault(directory: folder + "/vault", quotaBytes: 1 << 30)
      let keeper = MemoryKeeper(
        vault: vault, memory: memory, blocks: blocks, guest: "web-1", uuid: "u-1")
      _ = try keeper.keep(isCalledOff: { false }) { _ in }
      let entry = try #require(vault.newest(guest: "web-1", uuid: "u-1"))
      let snapshot = try HeldSnapshot(path: entry.path)
      let held = HeldPages(
        try #require(PeerMessage.SnapshotOffer(entry)), readable: Set(blocks.map(\.name)),
        inPlace: [])
      try snapshot.tell { (frame) throws(RelayFailure) in
        var payload: [UInt8] = []
        frame.encode(into: &payload)
        try held.arrived(payload)
      }
      return ((held, snapshot), entry.path)
    }
  }

  /// Both hosts have an image with what `fill` wrote.
  func image(
    in scratch: ImageScratch
  ) async throws -> (source: DiskDirectory, destination: HeldImages) {
    let file = try await sourceMemory().file
    return try await Blocking.run {
      let buffer = PageBuffer(byteCount: 16 << 20)
      try file.read(at: 32 << 20, into: buffer.part(0, buffer.byteCount))
      let path = scratch.path + "/disk.raw"
      try Data(buffer.part(0, buffer.byteCount)).write(to: URL(filePath: path))
      let indexes = try ["a", "b"].map { host in
        let indexing = scratch.indexing(host)
        _ = try indexing.run(path)
        return try #require(indexing.folder.load(path))
      }
      let (images, matches) = try #require(
        HeldImages.match([ImageClaim(indexes[0])], with: [indexes[1]]))
      return (try #require(DiskDirectory([indexes[0]], matches)), images)
    }
  }
}
