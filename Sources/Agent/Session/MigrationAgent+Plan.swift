import HostIO
import Logging
import QMP
import Strategy

extension MigrationAgent {
  /// Finds out what a forecast of this migration needs; nothing is changed, here or there.
  public func plan(_ request: MigrationRequest) async throws -> PlanReport {
    try beginSampling()
    defer { endSampling() }
    let share = link.join()
    defer { share.leave() }
    var report = try await PlanSession(
      request: request, configuration: configuration, share: share
    ).run()
    let past = await pastRecords(to: request.destination)
    report.earlier = past.compactMap(PastForecast.init)
    report.earlierKnown = past.compactMap(PastKnownMove.init)
    return report
  }

  /// Of the newest migrations; none when the history can't be read, which makes a forecast no worse than a first one.
  private func pastRecords(to destination: String) async -> [MigrationRecord] {
    let records = (try? await history(limit: Self.pastRecords)) ?? []
    return records.filter { $0.side == "source" && $0.destination == destination }
  }

  private static let pastRecords = 500

  /// Answers another agent's probe.
  func serveProbe(_ socket: any ByteConnection) async {
    let isFull = probes >= ProbeServer.connectionsMax
    if isFull || isDraining {
      let why = isFull ? "\(probes) connections probe this host already" : "it is shutting down"
      return PeerConnection.welcome(socket, refusal: why)
    }
    probes += 1
    let server = ProbeServer(configuration: configuration)
    do {
      try await WorkerThread.run("gw-probe-rx") {
        PeerConnection.welcome(socket)
        try server.serve(socket)
      }
    } catch {
      logger.debug("probe ended", metadata: ["peer": "\(socket.peer)", "error": "\(error)"])
    }
    socket.shutdown()
    probes -= 1
  }
}
