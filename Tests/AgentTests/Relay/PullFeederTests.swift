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
    let pair: PullPair
    let feeder: PullFeeder
    let peer: PullingSource
    let events = Events<PullFeeder.Event>()
    /// Of `peer`.
    let sender = Guarded<WorkerThread?>(nil)

    /// - Parameter isHeld: the source sends only what the guest waits for.
    init(_ program: QEMUProgram, isHeld: Bool) async throws {
      let pair = try await PullPair(program)
      self.pair = pair
      let (guest, qemu, invalid) = (pair.guest, pair.qemu, pair.invalid)
      let peer = PullingSource(guest, isHeld: isHeld)
      self.peer = peer
      let events = self.events
      let feeder = try PullFeeder(
        qemu: qemu, blocks: guest.blocks, sectionID: guest.sectionID, invalid: invalid,
        ask: { (requests) throws(RelayFailure) in peer.asked(requests) },
        onEvent: { events.add($0) })
      self.feeder = feeder
      let state = try DeviceState(
        tail: guest.tail, descriptionLength: guest.descriptionLength)
      let prologue = pair.prologue
      try await Blocking.run {
        try qemu.writeAll(prologue.span.bytes)
        try feeder.start(state, invalid: invalid)
      }
      let worker = WorkerThread("peer") {
        peer.run { (header, buffer) throws(RelayFailure) in try feeder.arrived(header, buffer) }
      }
      sender.update { $0 = worker }
    }

    deinit {
      peer.state.update { $0.hasEnded = true }
      feeder.stop()
    }

    func event<R: Sendable>(
      _ pick: @escaping @Sendable (PullFeeder.Event) -> R?
    ) async throws -> R? {
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

  /// PREPARED: QEMU is paused with its devices loaded; the pages come before anybody says `cont`.
  @Test(arguments: QEMUProgram.installed)
  func everyPageArrivesWhileTheGuestIsPaused(program: QEMUProgram) async throws {
    let rig = try await Rig(program, isHeld: true)
    #expect(try await rig.pair.wait(for: .postcopyActive) == .postcopyActive)
    #expect(try await rig.pair.loadedState() == .paused)
    #expect(rig.feeder.missingCount > 0)
    rig.peer.state.update { $0.isHeld = false }

    #expect(try await rig.event { if case .complete = $0 { true } else { nil } } == true)
    #expect(try await rig.shutValue() == 0)
    #expect(try await rig.pair.wait(for: .completed) == .completed)
    #expect(rig.trouble == nil && rig.feeder.missingCount == 0)
    #expect(rig.feeder.counters.placed == rig.pair.invalid.population)
    #expect(try await rig.pair.differences() == 0)
    try await rig.pair.to.client.cont()
    #expect(try await rig.pair.to.client.queryStatus().isRunning)
  }

  /// The guest runs at once and gets what it waits for, over a connection that breaks meanwhile.
  @Test(arguments: QEMUProgram.installed)
  func theGuestRunsOnPagesThatItWaitsFor(program: QEMUProgram) async throws {
    let rig = try await Rig(program, isHeld: true)
    #expect(try await rig.pair.wait(for: .postcopyActive) == .postcopyActive)
    try await rig.pair.to.client.cont()
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
    #expect(try await rig.pair.wait(for: .completed) == .completed)
    #expect(rig.trouble == nil)
    let counters = rig.feeder.counters
    #expect(counters.placed == rig.pair.invalid.population && counters.placedForFaults > 0)
    #expect(try await rig.pair.to.client.queryStatus().isRunning)
  }

  /// An agent died: QEMU says which pages it has, on a new stream, and waits for the others there.
  @Test(arguments: QEMUProgram.installed)
  func aQEMUThatLostItsStreamGoesOnWithAnother(program: QEMUProgram) async throws {
    let rig = try await Rig(program, isHeld: true)
    let pair = rig.pair
    #expect(try await pair.wait(for: .postcopyActive) == .postcopyActive)
    try await pair.to.client.cont()
    let (lost, old) = (rig.peer, rig.feeder)
    let asked = try await Blocking.run {
      lost.state.wait(timeoutMs: 60_000) { $0.urgentRequests > 0 ? true : nil }
    }
    #expect(asked == true)
    // The answer takes a moment.
    while old.counters.placed == 0 { try await Task.sleep(for: .milliseconds(2)) }
    lost.state.update { $0.hasEnded = true }
    // What it has begun to give counts as placed: it still gets to QEMU.
    let sender = rig.sender
    try await Blocking.run {
      sender.update { $0 }?.join()
      old.stop()
    }
    #expect(try await pair.wait(for: .postcopyPaused) == .postcopyPaused)

    let path = pair.destination.folder.path() + "/again.sock"
    try await pair.to.client.migrateRecover(uri: "unix:" + path)
    let guest = pair.guest
    let events = Events<PullFeeder.Event>()
    let peer = PullingSource(guest, isHeld: false)
    defer { peer.state.update { $0.hasEnded = true } }
    let (feeder, missing) = try await Blocking.run {
      let qemu = try UnixSocket.connect(path: path)
      let (missing, soFar) = try PausedQEMU.takeUp(qemu, guest.blocks, timeoutMs: 60_000)
      let feeder = try PullFeeder(
        qemu: qemu, blocks: guest.blocks, sectionID: guest.sectionID, invalid: missing,
        ask: { (requests) throws(RelayFailure) in peer.asked(requests) },
        onEvent: { events.add($0) })
      _ = WorkerThread("peer") {
        peer.run { (header, buffer) throws(RelayFailure) in try feeder.arrived(header, buffer) }
      }
      try feeder.resume(soFar)
      return (feeder, missing)
    }
    // What came before the loss is there.
    let before = old.counters.placed
    #expect(before > 0 && missing.population == pair.invalid.population - before)
    let shut = try await Blocking.run {
      events.first(timeoutMs: 60_000) { event -> UInt32? in
        guard case .shut(let value) = event else { return nil }
        return value
      }
    }
    #expect(shut == 0)
    #expect(try await pair.wait(for: .completed) == .completed)
    #expect(try await pair.to.client.queryStatus().isRunning)
    #expect(feeder.counters.placed == missing.population)
    #expect(peer.state.read { $0.failure } == nil)
    try await Blocking.run { feeder.stop() }
  }

  @Test func aQEMUThatDiesIsTold() async throws {
    let rig = try await Rig(QEMUProgram.installed[0], isHeld: true)
    #expect(try await rig.pair.wait(for: .postcopyActive) == .postcopyActive)
    rig.pair.destination.kill()
    let failure = try await rig.event { event -> Bool? in
      if case .failed(.qemu) = event { true } else { nil }
    }
    #expect(failure == true)
  }
}
