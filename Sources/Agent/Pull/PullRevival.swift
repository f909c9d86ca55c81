import Base
import HostIO
import Logging
import QEMUStream
import QMP
import Strategy
import Wire

/// A pull into this host whose agent died: the guest runs on until it touches a page that is missing.
///
/// QEMU has lost its stream and is `postcopy-paused`. It takes a new one (`migrate-recover`), says which pages it
/// has, and goes on; then the source's connections are let in, as before.
final class PullRevival: Sendable {
  enum Status: Sendable {
    case running, done
    case failed(String)
  }

  /// Longest wait for each of QEMU's answers on the new stream.
  static let answerTimeoutMs: UInt64 = 10_000

  /// The kept monitor's path.
  private let kept: String
  private let monitor: Monitor
  private let feeder: PullFeeder
  private let port: PullPort
  private let status: Guarded<Status>

  /// Gives QEMU a new stream and goes on.
  ///
  /// - Parameter onEnd: called once, when it is done or has failed.
  static func begin(
    _ id: String, _ pull: JournalRecord.PullStart, monitorPath: String, logger: Logger,
    onEnd: @escaping @Sendable () -> Void
  ) async throws -> PullRevival {
    let kept = IncomingQEMU.keptMonitorPath(monitorPath)
    let monitor = try await Monitor.connect(path: kept + MonitorKeeper.suffix, timeoutMs: 5000)
    do {
      let qemu = try await open(monitor, monitorPath + ".again")
      let (invalid, path) = try await Blocking.run {
        try PausedQEMU.takeUp(qemu, pull.blocks, timeoutMs: answerTimeoutMs)
      }
      let status = Guarded(Status.running)
      let end: @Sendable (Status) -> Void = { end in
        let isFirst = status.update { status -> Bool in
          guard case .running = status else { return false }
          status = end
          return true
        }
        if isFirst { onEnd() }
      }
      let port = PullPort(
        onEvent: { isUp in
          guard !isUp else { return }
          logger.error(
            "the guest here waits for pages of the source, whose connection broke",
            metadata: ["migration": "\(id)"])
        }, onFailure: { end(.failed("\($0)")) })
      let feeder = try PullFeeder(
        qemu: qemu, blocks: pull.blocks, sectionID: pull.sectionID, invalid: invalid,
        ask: { port.ask($0) },
        onEvent: { event in
          switch event {
          case .complete(let done): port.finished(done)
          case .shut(0): end(.done)
          case .shut(let code): end(.failed("QEMU gave the pull up with \(code)"))
          case .failed(let failure): end(.failed("\(failure)"))
          case .handedOver: break
          }
        })
      port.begin(feeder)
      try await Blocking.run { try feeder.resume(path) }
      return PullRevival(kept: kept, monitor, feeder, port, status)
    } catch {
      await monitor.close()
      throw error
    }
  }

  private init(
    kept: String, _ monitor: Monitor, _ feeder: PullFeeder, _ port: PullPort,
    _ status: Guarded<Status>
  ) {
    (self.kept, self.monitor, self.feeder, self.port, self.status) =
      (kept, monitor, feeder, port, status)
  }

  var state: Status { status.read { $0 } }

  /// Lets a connection of the source in; false: there is no such lane.
  func admit(_ socket: any ByteConnection, lane: UInt16) -> Bool {
    PeerConnection.welcome(socket)
    return port.attach(socket, lane: lane)
  }

  func stop() async {
    let (port, feeder, kept) = (port, feeder, kept)
    await monitor.close()
    let isDone = if case .done = state { true } else { false }
    _ = try? await Blocking.run {
      port.stop()
      feeder.stop()
      if isDone { MonitorKeeper.end(kept) }
    }
  }

  /// QEMU's end of a new stream.
  private static func open(_ monitor: Monitor, _ path: String) async throws -> StreamSocket {
    do { try await monitor.client.migrateRecover(uri: "unix:" + path) } catch {
      // An earlier attempt may have come as far as this; its socket is there then.
      guard let socket = try? await Blocking.run({ try UnixSocket.connect(path: path) }) else {
        throw error
      }
      return socket
    }
    return try await Blocking.run { try UnixSocket.connect(path: path) }
  }
}
