import Base
import Foundation
import HostIO
import QEMUStream
import QMP
import Strategy
import Testing
import Wire

@testable import Agent

/// A guest that runs at the destination before its memory is there, made of the ordinary pre-copy stream
/// of a source that knows nothing of post-copy; real QEMUs under TCG on both sides.
@Suite(.serialized, .timeLimit(.minutes(3)), .enabled(if: !QEMUProgram.installed.isEmpty))
struct PullFeederTests {
  /// A destination that has had everything up to the handover, and what it still lacks.
  private final class Rig {
    let source: RunningQEMU
    let destination: RunningQEMU
    let from: Monitor
    let to: Monitor
    let guest: StoppedGuest
    let invalid: PageBitmap
    let feeder: PullFeeder
    let peer: PullingSource
    let events = Events<PullFeeder.Event>()

    static let memory = [
      "-object", "memory-backend-memfd,id=mem0,size=65664K,share=on",
      "-machine", "pc,memory-backend=mem0",
    ]

    /// - Parameter isHeld: the source sends only what the guest waits for.
    init(_ program: QEMUProgram, isHeld: Bool) async throws {
      source = try await RunningQEMU(program, Self.memory)
      destination = try await RunningQEMU(program, Self.memory + ["-S", "-incoming", "defer"])
      from = try await Monitor.connect(path: source.monitorPath, timeoutMs: 10_000)
      to = try await Monitor.connect(path: destination.monitorPath, timeoutMs: 10_000)
      try await from.client.stop()
      try await Self.fill(from.client, pid: source.pid)

      let path = source.folder.path() + "/out.sock"
      let listener = try UnixSocket.listen(path: path)
      try await from.client.migrate(uri: "unix:" + path)
      guest = try await Blocking.run {
        let socket = try #require(try listener.accept(timeoutMs: 10_000))
        return try StoppedGuest.read(from: socket)
      }

      try await to.client.migrateSetCapabilities(["postcopy-ram": true, "return-path": true])
      let entrance = destination.folder.path() + "/in.sock"
      try await to.client.migrateIncoming(uri: "unix:" + entrance)
      let qemu = try await Blocking.run { try UnixSocket.connect(path: entrance) }
      let (prologue, invalid) = Self.prologue(guest)
      self.invalid = invalid
      let peer = PullingSource(guest, owed: invalid, isHeld: isHeld)
      self.peer = peer
      let events = self.events
      let feeder = try PullFeeder(
        qemu: qemu, blocks: guest.blocks, sectionID: guest.sectionID, invalid: invalid,
        ask: { (requests) throws(RelayFailure) in peer.asked(requests) },
        onEvent: { events.add($0) })
      self.feeder = feeder
      let state = try DeviceState(
        tail: guest.tail, descriptionLength: guest.descriptionLength)
      try await Blocking.run {
        try qemu.writeAll(prologue.span.bytes)
        try feeder.start(state, invalid: invalid)
      }
      _ = WorkerThread("peer") { peer.run(into: feeder) }
    }

    deinit {
      peer.state.update { $0.hasEnded = true }
      feeder.stop()
    }

    /// Something to compare: 16 MiB of noise in the middle of RAM.
    private static func fill(_ client: QMPClient, pid: Int32) async throws {
      let found = try await SharedMemoryBackend.locate(client, pid: pid)
      let block = try #require(found.first)
      try await Blocking.run {
        let memory = try SharedFile(
          path: block.path, offset: block.offset, length: block.length, writable: true)
        var random = SplitMix64(seed: 3)
        let noise = (0..<(16 << 20) / 8).map { _ in random.next() }
        try noise.withUnsafeBytes { try memory.write($0, at: 32 << 20) }
      }
    }

    /// Everything before DISCARD: of each three pages one is sent as it is and one is stale.
    private static func prologue(_ guest: StoppedGuest) -> ([UInt8], PageBitmap) {
      var bytes = guest.head
      PostcopyWriter.advise(opensReturnPath: true, into: &bytes)
      bytes += guest.start
      var writer = RAMWriter(sectionID: guest.sectionID, blocks: guest.blocks)
      var invalid = PageBitmap(count: guest.numbering.limit)
      let stale = [UInt8](repeating: 0xEE, count: Page.size)
      writer.beginPart(into: &bytes)
      for block in guest.blocks.indices {
        for page in 0..<guest.blocks[block].pageCount {
          let number = guest.numbering.number(block: block, page: page)
          let offset = UInt64(page) << 12
          switch page / 7 % 3 {
          case 0:
            if let content = guest.pages[number] {
              writer.page(block: block, offset: offset, bytes: content.span.bytes, into: &bytes)
            } else {
              writer.zeroPage(block: block, offset: offset, into: &bytes)
            }
          case 1:
            invalid[number] = true
            writer.page(block: block, offset: offset, bytes: stale.span.bytes, into: &bytes)
          default: invalid[number] = true
          }
        }
      }
      writer.endSection(into: &bytes)
      return (bytes, invalid)
    }

    func wait(
      _ client: QMPClient, for wanted: Set<MigrationStatus>
    ) async throws -> MigrationStatus {
      while true {
        let info = try await client.queryMigrate()
        if wanted.contains(info.status) || info.status == .failed { return info.status }
        try await Task.sleep(for: .milliseconds(10))
      }
    }

    func event<R: Sendable>(_ pick: @escaping @Sendable (PullFeeder.Event) -> R?) async throws -> R?
    {
      try await Blocking.run { [events] in events.first(timeoutMs: 60_000, where: pick) }
    }

    /// How QEMU closed the migration.
    func shutValue() async throws -> UInt32? {
      try await event { event -> UInt32? in
        guard case .shut(let value) = event else { return nil }
        return value
      }
    }

    var trouble: String? {
      for case .failed(let failure) in events.all { return "\(failure)" }
      return peer.state.read { $0.failure }
    }
  }

  /// Guest RAM of two QEMUs; how many pages differ.
  private func differences(_ rig: Rig) async throws -> Int {
    let a = try #require(
      try await SharedMemoryBackend.locate(rig.from.client, pid: rig.source.pid).first)
    let b = try #require(
      try await SharedMemoryBackend.locate(rig.to.client, pid: rig.destination.pid).first)
    return try await Blocking.run {
      let (left, right) = (
        try SharedFile(path: a.path, offset: a.offset, length: a.length, writable: false),
        try SharedFile(path: b.path, offset: b.offset, length: b.length, writable: false)
      )
      let (one, two) = (PageBuffer(byteCount: Page.size), PageBuffer(byteCount: Page.size))
      var count = 0
      for place in stride(from: 0, to: a.length, by: Page.size) {
        try left.read(at: place, into: one.part(0, Page.size))
        try right.read(at: place, into: two.part(0, Page.size))
        if memcmp(one.base, two.base, Page.size) != 0 { count += 1 }
      }
      return count
    }
  }

  /// PREPARED: QEMU is paused with its devices loaded; the pages come before anybody says `cont`.
  @Test(arguments: QEMUProgram.installed)
  func everyPageArrivesWhileTheGuestIsPaused(program: QEMUProgram) async throws {
    let rig = try await Rig(program, isHeld: true)
    let prepared = try await rig.wait(rig.to.client, for: [.postcopyActive])
    #expect(prepared == .postcopyActive)
    var status = try await rig.to.client.queryStatus()
    while status.state == .inMigrate { status = try await rig.to.client.queryStatus() }
    #expect(status.state == .paused)
    #expect(rig.feeder.missingCount > 0)
    rig.peer.state.update { $0.isHeld = false }

    #expect(try await rig.event { if case .complete = $0 { true } else { nil } } == true)
    #expect(try await rig.shutValue() == 0)
    #expect(try await rig.wait(rig.to.client, for: [.completed]) == .completed)
    #expect(rig.trouble == nil && rig.feeder.missingCount == 0)
    #expect(rig.feeder.counters.placed == rig.invalid.population)
    #expect(try await differences(rig) == 0)
    try await rig.to.client.cont()
    #expect(try await rig.to.client.queryStatus().isRunning)
  }

  /// The guest runs at once and gets what it waits for, over a connection that breaks meanwhile.
  @Test(arguments: QEMUProgram.installed)
  func theGuestRunsOnPagesThatItWaitsFor(program: QEMUProgram) async throws {
    let rig = try await Rig(program, isHeld: true)
    #expect(try await rig.wait(rig.to.client, for: [.postcopyActive]) == .postcopyActive)
    try await rig.to.client.cont()
    let peer = rig.peer
    let first = try await Blocking.run {
      peer.state.wait(timeoutMs: 60_000) { $0.urgentRequests > 0 ? $0.urgentRequests : nil }
    }
    #expect(first != nil, "the guest waited for no page")

    // What is asked for meanwhile is lost; nothing is sent.
    peer.state.update { $0.isCut = true }
    try await Blocking.run { [feeder = rig.feeder] in try feeder.connectionRenewed() }
    #expect(peer.state.read { $0.thrownAway } > 0)
    #expect(rig.feeder.missingCount > 0)
    peer.state.update { ($0.isCut, $0.isHeld) = (false, false) }
    try await Blocking.run { [feeder = rig.feeder] in try feeder.connectionRenewed() }

    #expect(try await rig.shutValue() == 0)
    #expect(try await rig.wait(rig.to.client, for: [.completed]) == .completed)
    #expect(rig.trouble == nil)
    let counters = rig.feeder.counters
    #expect(counters.placed == rig.invalid.population && counters.placedForFaults > 0)
    #expect(try await rig.to.client.queryStatus().isRunning)
  }

  @Test func aQEMUThatDiesIsTold() async throws {
    let rig = try await Rig(QEMUProgram.installed[0], isHeld: true)
    #expect(try await rig.wait(rig.to.client, for: [.postcopyActive]) == .postcopyActive)
    rig.destination.kill()
    let failure = try await rig.event { event -> Bool? in
      if case .failed(.qemu) = event { true } else { nil }
    }
    #expect(failure == true)
  }
}
