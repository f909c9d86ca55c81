import Agent
import Base
import HostIO

/// Godwit's agents on both hosts, for the guests of one trial.
struct AgentPair: Sendable {
  let source, destination: LabAgent
  private let sessions: [GuestSession]

  /// How long a QEMU that was told to end may take, in milliseconds.
  static let endingMs: UInt64 = 30_000

  /// Starts both; the destination's can start a QEMU for each guest, and both know the guests' root disk, unless it is to
  /// move.
  static func start(_ sessions: [GuestSession], observer: any LabObserver) async throws -> AgentPair
  {
    guard let first = sessions.first else { throw LabError("agents without a guest") }
    try await indexRootDisk(first, observer)
    let source = try await LabAgent.start(.source, session: first)
    do {
      let destination = try await LabAgent.start(.destination, session: first)
      for other in sessions.dropFirst() {
        try LabAgent.files(.destination, first).define(other)
      }
      return AgentPair(source: source, destination: destination, sessions: sessions)
    } catch {
      await source.end()
      throw error
    }
  }

  /// Ends the agents, and the QEMUs that they started, which outlive them.
  func end() async {
    await source.end()
    await destination.end()
    for session in sessions {
      let sides: [HostPair.Side] =
        session.home == .destination ? [.source, .destination] : [.destination]
      for side in sides {
        let mark = session.file("\(side.rawValue).tty")
        let left = Leftovers.processes(naming: mark).compactMap { ProcessIdentity(pid: $0) }
        Leftovers.endProcesses(naming: mark)
        // The next guest needs their network.
        for process in left { _ = try? await process.waitForExit(timeoutMs: Self.endingMs) }
      }
    }
  }

  /// `error` with what both said last.
  func failure(_ error: any Error) -> any Error {
    LabError(
      "\(error); source agent: \(source.lastWords); destination agent: \(destination.lastWords)")
  }

  /// Both hosts have indexed the image long before the guest moves: that is no part of the migration.
  private static func indexRootDisk(
    _ session: GuestSession, _ observer: any LabObserver
  ) async throws {
    guard let image = session.rootDisk, session.movedRoot == nil else { return }
    for side in HostPair.Side.allCases {
      try LabAgent.makeFolders(side, session)
      let folder = IndexFolder(stateDirectory: LabAgent.folder(side, session) + "/state")
      let outcomes = try await WorkerThread.run("lab-index") {
        try ImageIndexing(folder: folder, threads: CPUSet.processorCount).run(image)
      }
      for outcome in outcomes {
        await observer.note(
          "indexed \(ByteCount(outcome.heldBytes)) in \(Milliseconds.format(outcome.elapsedMs))")
      }
    }
  }
}
