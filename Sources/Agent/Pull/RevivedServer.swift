import Base
import HostIO
import Logging
import QMP
import Strategy
import Wire

/// A pull out of this host whose agent died: the source's QEMU holds the pages, and this agent gives them.
final class RevivedServer: Sendable {
  /// Connections for what is asked for ahead.
  private static let laneCount: UInt16 = 4

  private let server: PullServer
  private let status: Guarded<PullRevival.Status>
  private let share: LinkShare

  /// Finds the guest's memory again and looks for the destination.
  ///
  /// - Parameters:
  ///   - link: that all outgoing migrations share; what the operator allowed this one is in `pull`.
  ///   - onEnd: called once, when it is done or has failed.
  static func begin(
    _ start: JournalRecord.SourceStart, _ pull: JournalRecord.PullStart, _ id: MigrationID,
    _ configuration: AgentConfiguration, _ link: OutgoingLink, logger: Logger,
    onEnd: @escaping @Sendable () -> Void
  ) async throws -> RevivedServer {
    let monitor = try await Monitor.connect(path: start.monitorPath, timeoutMs: 10_000)
    let memory: StoppedMemory
    do {
      memory = try await StoppedMemory.open(
        pull.blocks, shared: [:], monitor.client, pid: start.pid)
    } catch {
      await monitor.close()
      throw error
    }
    await monitor.close()
    let (peer, security) = (start.destination, PeerSecurity(configuration))
    let token = start.pullToken(id)
    let status = Guarded(PullRevival.Status.running)
    let share = link.join()
    let server = PullServer(
      memory: memory,
      packing: pull.packs == true
        ? PullPacking(
          effort: nil, threads: configuration.compactionThreadCount, lanes: Int(Self.laneCount))
        : nil,
      pacer: PullPacer(
        bandwidth: pull.bandwidthBytesPerSecond.flatMap { ByteRate(bytesPerSecond: $0) },
        share: share),
      laneCount: Self.laneCount,
      recovery: LaneRecovery(
        patienceMs: { .max },
        dial: { role, lane in
          try PeerConnection.open(
            peer, Hello(role: role, lane: lane, migration: id, token: token), security: security,
            timeoutMs: SourceMigration.redialTimeoutMs)
        }),
      bytesWritten: Guarded(0)
    ) { event in
      let end: PullRevival.Status
      switch event {
      case .connected:
        return logger.notice("giving pages to \(peer)", metadata: ["migration": "\(id)"])
      case .broken(let reason):
        return logger.error(
          "the guest at \(peer) waits for pages that are here",
          metadata: ["migration": "\(id)", "error": "\(reason)"])
      case .done: end = .done
      case .failed(let failure): end = .failed("\(failure)")
      }
      share.leave()
      status.update { $0 = end }
      onEnd()
    }
    server.start()
    return RevivedServer(server, status, share)
  }

  private init(_ server: PullServer, _ status: Guarded<PullRevival.Status>, _ share: LinkShare) {
    (self.server, self.status, self.share) = (server, status, share)
  }

  var state: PullRevival.Status { status.read { $0 } }

  func stop() async {
    _ = try? await Blocking.run { [server] in server.stop() }
    share.leave()
  }
}
