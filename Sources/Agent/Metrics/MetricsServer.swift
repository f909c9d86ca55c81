import HostIO
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import ServiceLifecycle

/// Answers `/metrics`, `/healthz` and `/readyz` over HTTP, on an address of its own.
///
/// Bounds: `clientCountMax` connections, one request each, its head within NIO's limits,
/// `clientTimeoutSeconds` for all of it.
struct MetricsServer: Service {
  private typealias Connection = NIOAsyncChannel<
    HTTPServerRequestPart, HTTPServerResponsePart
  >
  private typealias Client = AcceptedClient<HTTPServerRequestPart, HTTPServerResponsePart>
  static let clientCountMax = 32
  static let clientTimeoutSeconds: Int64 = 10

  let address: String
  let answers: @Sendable (String) async -> MetricsAnswer
  let logger: Logger
  /// Told the port once clients can connect.
  var listening: @Sendable (Int?) -> Void = { _ in }

  func run() async throws {
    guard let (host, port) = TCPSocket.split(address, defaultPort: 0) else {
      throw SystemError("metrics: \"\(address)\" is not ADDRESS:PORT", code: 22)
    }
    let server: NIOAsyncChannel<Client, Never>
    do {
      server = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
        .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
        .bind(host: host, port: Int(port)) { channel in
          channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.configureHTTPServerPipeline(
              withPipeliningAssistance: false, withErrorHandling: true)
            return Client(try Connection(wrappingChannelSynchronously: channel))
          }
        }
    } catch {
      throw SystemError("metrics: listen on \(address) (\(error))", code: 98)
    }
    do {
      try await cancelWhenGracefulShutdown { try await accept(server) }
    } catch is CancellationError where Task.isShuttingDownGracefully {
      logger.debug("metrics closed")
    }
  }

  private func accept(_ server: NIOAsyncChannel<Client, Never>) async throws {
    let clients = ClientCount(limit: Self.clientCountMax)
    try await server.executeThenClose { inbound in
      logger.info("metrics open", metadata: ["address": "\(address)"])
      listening(server.channel.localAddress?.port)
      try await withThrowingDiscardingTaskGroup { group in
        for try await client in inbound {
          guard clients.enter() else { continue }  // dropping it closes it
          group.addTask {
            defer { clients.leave() }
            if let connection = client.take() { await serve(connection) }
          }
        }
        group.cancelAll()
      }
    }
  }

  private func serve(_ client: Connection) async {
    let channel = client.channel
    let deadline = channel.eventLoop.scheduleTask(in: .seconds(Self.clientTimeoutSeconds)) {
      channel.close(promise: nil)
    }
    defer { deadline.cancel() }
    do {
      try await client.executeThenClose { inbound, outbound in
        for try await part in inbound {
          guard case .head(let request) = part else { continue }
          let answer = await answer(to: request)
          var head = HTTPResponseHead(version: request.version, status: answer.status)
          head.headers.add(name: "Content-Type", value: answer.contentType)
          head.headers.add(name: "Content-Length", value: "\(answer.text.utf8.count)")
          head.headers.add(name: "Connection", value: "close")
          try await outbound.write(.head(head))
          if request.method != .HEAD {
            try await outbound.write(.body(.byteBuffer(ByteBuffer(string: answer.text))))
          }
          try await outbound.write(.end(nil))
          return
        }
      }
    } catch {
      logger.debug("metrics client gone", metadata: ["error": "\(error)"])
    }
  }

  private func answer(to request: HTTPRequestHead) async -> MetricsAnswer {
    guard request.method == .GET || request.method == .HEAD else {
      return MetricsAnswer(.methodNotAllowed, "only GET\n")
    }
    let path = request.uri.prefix { $0 != "?" }
    return await answers(String(path))
  }
}

/// What a client of the metrics port is told.
struct MetricsAnswer: Sendable, Equatable {
  var status: HTTPResponseStatus
  var text: String
  var contentType = "text/plain; charset=utf-8"

  init(_ status: HTTPResponseStatus, _ text: String) { (self.status, self.text) = (status, text) }
}
