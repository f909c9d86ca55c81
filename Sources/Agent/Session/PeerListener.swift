import Base
import Glibc
import HostIO
public import Logging
public import ServiceLifecycle

/// Accepts the connections of other agents, as a service of the agent's process.
public struct PeerListener: Service {
  /// Time for a new connection to say who it is.
  static let helloTimeoutMs: UInt64 = 5000
  /// Connections that have not said so yet, at most: a flood of silent ones must not eat threads.
  static let greetingMax = 64

  private let agent: MigrationAgent
  private let listener: ListeningSocket
  private let isInherited: Bool
  private let logger: Logger

  /// Ends the accepting of an inherited socket, which must stay usable for the next agent.
  private let isOver = Guarded(false)
  static let acceptPollMs: UInt64 = 250

  /// Binds at once, so that a wrong address is an error at start.
  ///
  /// - Parameter inherited: a listening socket to use in place of the configuration's address.
  public init(agent: MigrationAgent, inherited: Int32? = nil, logger: Logger) throws {
    for warning in try agent.configuration.checkSecurity() { logger.warning("\(warning)") }
    let address = agent.configuration.listenAddress
    guard let (host, port) = TCPSocket.split(address, defaultPort: TCPSocket.defaultPort) else {
      throw SystemError("listen: \"\(address)\" is not ADDRESS:PORT", code: EINVAL)
    }
    // A peer or QEMU that dies under a write is an error to handle, not a signal to die of.
    _ = signal(SIGPIPE, SIG_IGN)
    listener =
      try inherited.map { ListeningSocket(inheriting: $0) }
      ?? TCPSocket.listen(host: host, port: port)
    isInherited = inherited != nil
    (self.agent, self.logger) = (agent, logger)
  }

  /// The port, for tests that listen on port 0.
  public var port: UInt16? { TCPSocket.localPort(of: listener) }

  /// Accepts connections until the graceful shutdown, then ends what can be ended of the migrations
  /// that run.
  public func run() async throws {
    let room = GreetingRoom(waitingMax: Self.greetingMax)
    let accepting = WorkerThread("gw-accept") { [listener, agent, isOver, logger] in
      let pollMs = isInherited ? Self.acceptPollMs : nil
      while !isOver.read({ $0 }) {
        let socket: StreamSocket
        do throws(SystemError) {
          guard let accepted = try listener.accept(timeoutMs: pollMs) else { continue }
          socket = TCPSocket.tuned(accepted)
        } catch {
          // What `run` has shut down, or was none from the beginning.
          if [EINVAL, EBADF, ENOTSOCK].contains(error.code) { return }
          // May pass: no descriptor or memory is free, or the network's error is that of one connection (accept(2)).
          let isFull = error.code == EMFILE || error.code == ENFILE
          logger.error(
            isFull ? "out of file descriptors" : "a connection was not accepted",
            metadata: ["error": "\(error)"])
          MonotonicClock.sleep(us: 100_000)
          continue
        }
        room.enter(socket)
        _ = WorkerThread("gw-hello") {
          agent.serve(socket)
          room.leave(socket)
        }
      }
    }
    logger.info("accepting migrations", metadata: ["address": "\(listener.name)"])
    await cancelWhenGracefulShutdown {
      while !Task.isCancelled { try? await Task.sleep(nanoseconds: 3_600_000_000_000) }
    }
    isOver.update { $0 = true }
    // Shutting it down would end it for the service manager too, which keeps it for the next agent.
    if !isInherited { listener.shutdown() }
    await agent.cancelAll()
    try? await Blocking.run { accepting.join() }
  }
}
