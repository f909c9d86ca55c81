import HostIO
import Logging
import Wire

// Connections from other agents.
extension MigrationAgent {
  /// Serves a connection that came in; called on a thread of its own.
  nonisolated func serve(_ accepted: StreamSocket) {
    let socket: any ByteConnection
    do {
      socket = try PeerSecurity(configuration)
        .server(accepted, timeoutMs: PeerListener.helloTimeoutMs)
    } catch {
      // What just went away or said nothing is no news.
      logger.log(
        level: Refusal(security: error) == nil ? .debug : .warning, "connection refused",
        metadata: ["peer": "\(accepted.peer)", "error": "\(error)"])
      return accepted.shutdown()
    }
    let hello: Hello
    do { hello = try PeerConnection.greet(socket, timeoutMs: PeerListener.helloTimeoutMs) } catch {
      logger.debug("connection refused", metadata: ["peer": "\(socket.peer)", "error": "\(error)"])
      return socket.shutdown()
    }
    Task {
      switch hello.role {
      case .control: await receive(hello, socket)
      case .data, .resume, .disk: await admit(hello, socket)
      case .pull, .settle:
        if let refusal = await refusal(of: hello, socket) {
          return PeerConnection.welcome(socket, refusal: refusal)
        }
        if hello.role == .pull { return await pull(hello, socket) }
        await PeerVerdict.serve(hello.migration, socket, agent: self)
      case .probe: await serveProbe(socket)
      case .warm: await serveWarm(socket)
      }
    }
  }

  private func receive(_ hello: Hello, _ socket: any ByteConnection) async {
    if let refusal = refusal(of: hello.migration) {
      return PeerConnection.welcome(socket, refusal: refusal)
    }
    let migration = DestinationMigration(
      id: hello.migration, socket: socket, configuration: configuration, gangs: gangGuests,
      logger: logger)
    incoming[hello.migration] = migration
    PeerConnection.welcome(socket)
    let record = await migration.run()
    if let record { await historyStore?.add(record) }
    counters.addIncoming(completed: migration.progress.phase == .done)
    incoming[hello.migration] = nil
  }

  /// Why a migration may not come in; nil when it may.
  private func refusal(of id: MigrationID) -> String? {
    if isActive(id.description) { return "a migration with this id is running here" }
    // Its journal is another migration's, of whoever began that, and it may not be settled.
    if Journal.exists(at: configuration.journalDirectory + "/\(id)" + Journal.suffix) {
      return "a migration with this id was here before"
    }
    if isDraining { return "the agent there is shutting down" }
    guard incoming.count >= configuration.incomingMax else { return nil }
    return "\(incoming.count) migrations into that host are running, its limit (incomingMax)"
  }

  private func admit(_ hello: Hello, _ socket: any ByteConnection) {
    let refusal = incoming[hello.migration]?.admit(socket, hello: hello)
    if incoming[hello.migration] == nil {
      PeerConnection.welcome(socket, refusal: "no such migration")
    } else if let refusal {
      PeerConnection.welcome(socket, refusal: refusal)
    }
  }

  /// A source's connection for pages that a guest lacks here: of a migration that runs, of one that an
  /// earlier agent left behind, or of one that is through, whose source has not heard so.
  private func pull(_ hello: Hello, _ socket: any ByteConnection) async {
    if incoming[hello.migration]?.admitPull(socket, hello: hello) == true { return }
    if revivals[hello.migration]?.admit(socket, lane: hello.lane) == true { return }
    await PullAnswer.serve(hello, socket, agent: self)
  }

  /// The running migration that a verdict is about.
  func incomingMigration(_ id: MigrationID) -> DestinationMigration? { incoming[id] }
}
