import Agent
import Base
import Foundation
import HostIO
import Testing

@testable import Lab

/// Agents that are killed while a guest's memory is written into a vault: the guest goes on, the vault has whole snapshots
/// or none, nothing half is left, and the next try succeeds.
@Suite(.serialized, .needsEquipment)
struct KeepFaultTests {
  /// Bytes of a file that is begun for good: the first segment is written.
  private static let begunBytes: UInt64 = 1 << 20

  private enum Way: String { case warm, keep }

  @Test(.timeLimit(.minutes(8))) func aDeathLeavesNothingHalf() async throws {
    await twoAtATime([Way.warm, .keep]) { way in
      var options = LabOptions()
      options.godwitProgram = Equipment.program
      options.guest.name = "half-\(way.rawValue)"
      options.guest.memory = .mebibytes(256)
      options.guest.memcachedMiB = nil
      options.guest.workload.memoryMiB = 64
      options.guest.workload.hotMiB = 8
      options.guest.workload.dirtyMiBPerSecond = 1
      options.guest.workload.verifyMiBPerSecond = 50
      try await LabRun(options: options, observer: SilentObserver()).withHosts {
        [options] commandLine, hosts, folder in
        let session = try await GuestSession.start(
          options: options, commandLine: commandLine, hosts: hosts, folder: folder,
          label: way.rawValue)
        let agents = FaultTrial.Agents(
          source: try await LabAgent.start(.source, session: session),
          destination: try await LabAgent.start(.destination, session: session))
        switch way {
        case .warm: try await killsWhileItIsCopied(session, agents)
        case .keep: try await killsWhileItIsKept(session, agents)
        }
        await session.end()
      }
    }
  }

  private func killsWhileItIsCopied(
    _ session: GuestSession, _ agents: FaultTrial.Agents
  ) async throws {
    var agents = agents
    for victim in [HostPair.Side.destination, .source] {
      let pass = Task { [agents] in
        try await Self.warm(session, agents, bytesPerSecond: 4_000_000)
      }
      try await Self.waitUntilBegun(.destination, session)
      try await Self.kill(victim, &agents)
      await #expect(throws: (any Error).self, "\(victim) was killed") { try await pass.value }
      agents[victim] = try await LabAgent.start(victim, session: session)
      try await Self.wait("half a copy is left") {
        Self.partialBytes(.destination, session) == nil
      }
      #expect(try await Self.verified(agents.destination).isEmpty)
    }
    let record = try await Self.warm(session, agents, bytesPerSecond: 400_000_000)
    #expect(record.keptPages > 10_000 && record.heldPages == 0, "\(record)")
    #expect(try await Self.verified(agents.destination).map(\.pages) == [record.keptPages])
    try await Self.expectAlive(session, at: .source)
    for agent in agents.both { await agent.end() }
  }

  private func killsWhileItIsKept(
    _ session: GuestSession, _ agents: FaultTrial.Agents
  ) async throws {
    var agents = agents
    try LabAgent.files(.source, session).define(session)

    // The agent that keeps it: the guest is away, and nothing of it is here.
    let first = Task { [agents] in try await Self.move(session, agents, from: .source) }
    try await Self.waitUntilBegun(.source, session)
    try await Self.kill(.source, &agents)
    let wasHalf = Self.partialBytes(.source, session) != nil
    _ = try? await first.value
    agents.source = try await LabAgent.start(.source, session: session)
    try await Self.wait("half a snapshot is left") { Self.partialBytes(.source, session) == nil }
    #expect(try await Self.verified(agents.source).isEmpty == wasHalf)
    try await Self.wait("the source's QEMU is left") { !session.source.isAlive }
    try await Self.expectAlive(session, at: .destination)

    // The agent that the guest came to: it is kept all the same.
    let second = Task { [agents] in try await Self.move(session, agents, from: .destination) }
    try await Self.waitUntilBegun(.destination, session)
    try await Self.kill(.source, &agents)
    let back = try await second.value
    #expect(back.outcome == .completed, "\(back.reason ?? "")")
    let kept = try #require(back.kept)
    #expect(kept.problem == nil && (kept.pages ?? 0) > 10_000, "\(kept)")
    #expect(try await Self.verified(agents.destination).map(\.pages) == [kept.pages])
    try await Self.expectAlive(session, at: .source)

    // Once more: what was kept there is used, and what was not kept here is.
    agents.source = try await LabAgent.start(.source, session: session)
    let there = try await Self.move(session, agents, from: .source)
    #expect(there.outcome == .completed && there.kept?.problem == nil, "\(there)")
    #expect((there.pages.snapshot ?? 0) > 5000, "\(there.pages)")
    #expect(try await Self.verified(agents.source).map(\.pages) == [there.kept?.pages])
    try await Self.expectAlive(session, at: .destination)
    for agent in agents.both { await agent.end() }
  }

  private static func warm(
    _ session: GuestSession, _ agents: FaultTrial.Agents, bytesPerSecond: UInt64
  ) async throws -> WarmRecord {
    var request = WarmRequest(
      vm: session.options.guest.name,
      destination: "\(session.hosts.address(.destination)):\(agents.destination.port)")
    request.bandwidthBytesPerSecond = bytesPerSecond
    for try await update in ControlClient(path: agents.source.controlSocket).warm(request) {
      if case .pass(let record) = update { return record }
    }
    throw LabError("the agent went away: \(agents.source.lastWords)")
  }

  /// Moves the guest to the other side, and keeps its memory.
  private static func move(
    _ session: GuestSession, _ agents: FaultTrial.Agents, from side: HostPair.Side
  ) async throws -> MigrationRecord {
    let other = side == .source ? HostPair.Side.destination : .source
    var request = MigrationRequest(
      vm: session.options.guest.name,
      destination: "\(session.hosts.address(other)):\(agents[other].port)")
    request.keepMemory = true
    for try await update in ControlClient(path: agents[side].controlSocket).migrate(request) {
      if case .finished(let record) = update { return record }
    }
    throw LabError("the agent went away: \(agents[side].lastWords)")
  }

  private static func kill(_ side: HostPair.Side, _ agents: inout FaultTrial.Agents) async throws {
    agents[side].process.send(signal: SIGKILL)
    _ = await agents[side].process.wait()
  }

  /// What the vault has, read to its end; every snapshot is whole.
  private static func verified(_ agent: LabAgent) async throws -> [VaultItem] {
    let items = try await ControlClient(path: agent.controlSocket).vault(VaultRequest(.verify))
    #expect(items.allSatisfy { $0.state == .whole }, "\(items)")
    return items
  }

  /// Of the file of a side's vault with this ending; nil: there is none.
  private static func bytes(
    _ ending: String, _ side: HostPair.Side, _ session: GuestSession
  ) -> UInt64? {
    let folder = LabAgent.folder(side, session) + "/state/vault"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    guard let name = names.first(where: { $0.hasSuffix(ending) }),
      let found = try? FileManager.default.attributesOfItem(atPath: folder + "/" + name)
    else { return nil }
    return (found[.size] as? NSNumber)?.uint64Value
  }

  private static func partialBytes(_ side: HostPair.Side, _ session: GuestSession) -> UInt64? {
    bytes(".partial", side, session)
  }

  /// A machine that lets this test wait may be through by then.
  private static func waitUntilBegun(_ side: HostPair.Side, _ session: GuestSession) async throws {
    try await wait("nothing is written into the vault") {
      partialBytes(side, session) ?? 0 >= begunBytes
        || bytes(".snapshot", side, session) != nil
    }
  }

  private static func wait(_ problem: String, until isSo: () -> Bool) async throws {
    let deadlineMs = MonotonicClock.nowMs + 60_000
    while !isSo() {
      guard MonotonicClock.nowMs < deadlineMs else { throw LabError(problem) }
      try await Task.sleep(for: .milliseconds(3))
    }
  }

  /// The guest runs there, and finds its memory whole.
  private static func expectAlive(_ session: GuestSession, at side: HeartbeatLog.Side) async throws
  {
    let count = session.serial.log.count(from: side)
    try await wait("the guest does not run there") {
      session.serial.log.count(from: side) >= count + 20
    }
    #expect(session.serial.log.errors == 0)
  }
}
