public import Logging
import NIOCore
import NIOPosix
public import ServiceLifecycle

/// Serves the control socket of an agent until the task is cancelled or a graceful shutdown begins.
///
/// A client that leaves doesn't end its migration: `cancel` does. Bounds: `clientCountMax`
/// connections, one request each, `ControlRequest.bytesMax` per request, `requestTimeoutSeconds`
/// for it to arrive.
public struct ControlServer<Agent: AgentService>: Service {
  static var clientCountMax: Int { 64 }
  static var requestTimeoutSeconds: Int64 { 30 }

  private typealias Client = AcceptedClient<ByteBuffer, ByteBuffer>

  private let path: String
  private let inherited: Int32?
  private let agent: Agent
  private let logger: Logger
  private let listening: @Sendable () -> Void

  /// - Parameters:
  ///   - inherited: a listening socket to serve in place of one at `path`; its maker made it and will
  ///     remove it.
  ///   - listening: called once clients can connect.
  public init(
    path: String, inherited: Int32? = nil, agent: Agent, logger: Logger,
    listening: @Sendable @escaping () -> Void = {}
  ) {
    (self.path, self.inherited, self.agent) = (path, inherited, agent)
    (self.logger, self.listening) = (logger, listening)
  }

  /// Serves until the graceful shutdown, then removes the socket that it made. Throws where it
  /// can't have the path, as when another agent serves it.
  public func run() async throws {
    let server = try await open()
    defer { if inherited == nil { ControlSocket.remove(path) } }
    do {
      try await cancelWhenGracefulShutdown { try await accept(server) }
    } catch is CancellationError where Task.isShuttingDownGracefully {
      logger.info("control socket closed")
    }
  }

  private func open() async throws
    -> NIOAsyncChannel<Client, Never>
  {
    let bootstrap = ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .serverChannelOption(.backlog, value: 64)
      .childChannelOption(.allowRemoteHalfClosure, value: true)
    if let inherited {
      return try await bootstrap.bind(inherited, childChannelInitializer: Self.wrap)
    }
    try await ControlSocket.claim(path)
    return try await bootstrap.bind(
      unixDomainSocketPath: path, childChannelInitializer: Self.wrap)
  }

  private static func wrap(
    _ channel: any Channel
  ) -> EventLoopFuture<Client> {
    channel.eventLoop.makeCompletedFuture {
      Client(try NIOAsyncChannel(wrappingChannelSynchronously: channel))
    }
  }

  private func accept(
    _ server: NIOAsyncChannel<Client, Never>
  ) async throws {
    let clients = ClientCount(limit: Self.clientCountMax)
    try await server.executeThenClose { inbound in
      if inherited == nil { try ControlSocket.restrict(path) }
      logger.info(
        "control socket open", metadata: ["path": "\(inherited == nil ? path : "inherited")"])
      listening()
      try await withThrowingDiscardingTaskGroup { group in
        for try await client in inbound {
          group.addTask {
            if let connection = client.take() { await serve(connection, clients) }
          }
        }
        group.cancelAll()
      }
    }
  }

  private func serve(_ client: NIOAsyncChannel<ByteBuffer, ByteBuffer>, _ clients: ClientCount)
    async
  {
    let admitted = clients.enter()
    defer { if admitted { clients.leave() } }
    let allowed = await PeerCredentials.of(client.channel)?.mayControl ?? false
    // No request within the time: the channel is closed under the reader, which then ends.
    let deadline = client.channel.eventLoop.scheduleTask(in: .seconds(Self.requestTimeoutSeconds)) {
      client.channel.close(promise: nil)
    }
    defer { deadline.cancel() }
    do {
      try await client.executeThenClose { inbound, _ in
        let replies = ReplyWriter(channel: client.channel)
        do {
          guard allowed else { throw ControlError(.refused, "only root and the agent's own user") }
          guard admitted else {
            throw ControlError(.refused, "too many clients at once; try again")
          }
          guard let request = try await Self.request(from: inbound) else { return }
          deadline.cancel()
          try await ControlDispatch(agent: agent, replies: replies).answer(request)
        } catch let error as ControlError {
          try await replies.send(.failure(error))
        }
      }
    } catch {
      logger.debug("control client gone", metadata: ["error": "\(error)"])
    }
  }

  /// The first line; nil when the client closes before it is complete.
  private static func request(
    from inbound: NIOAsyncChannelInboundStream<ByteBuffer>
  ) async throws -> ControlRequest? {
    var splitter = LineSplitter(bytesMax: ControlRequest.bytesMax)
    for try await piece in inbound {
      let lines: [[UInt8]]
      do {
        lines = try splitter.push(piece.readableBytesView)
      } catch {
        throw ControlError(.usage, "a request has at most \(ControlRequest.bytesMax) bytes")
      }
      guard let line = lines.first else { continue }
      do {
        return try JSONLine.decode(ControlRequest.self, from: line)
      } catch {
        throw ControlError(
          .usage, "not a request of this version: \(TerminalText.plain("\(error)"))")
      }
    }
    return nil
  }
}
