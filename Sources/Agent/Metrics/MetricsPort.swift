import HostIO
import Logging
import NIOHTTP1

/// `/metrics`, `/healthz` and `/readyz` of a program that isn't a group of services, over HTTP.
public final class MetricsPort: Sendable {
  private let task: Task<Void, any Error>
  /// Where it listens, also when it was told port 0.
  public let port: Int?

  /// Listens; throws when that isn't possible.
  ///
  /// - Parameters:
  ///   - address: `ADDRESS:PORT`; port 0: one that is free.
  ///   - notReady: why no more clients are let in; nil: they are.
  ///   - metrics: in Prometheus's text format. Both run on a thread of their own, and may take locks.
  public init(
    _ address: String, notReady: @escaping @Sendable () -> String?,
    metrics: @escaping @Sendable () -> String
  ) async throws {
    let logger = Logger(label: "godwit.metrics") { _ in SwiftLogNoOpLogHandler() }
    let (ports, feed) = AsyncStream<Int?>.makeStream()
    var server = MetricsServer(
      address: address, answers: { await Self.answer($0, notReady, metrics) }, logger: logger)
    server.listening = { port in
      feed.yield(port)
      feed.finish()
    }
    task = Task { [server] in
      defer { feed.finish() }
      try await server.run()
    }
    var found: Int??
    for await port in ports { found = port }
    // Without a port there is an error.
    if found == nil { try await task.value }
    port = found.flatMap { $0 }
  }

  /// Answers no more.
  public func close() async {
    task.cancel()
    _ = await task.result
  }

  private static func answer(
    _ path: String, _ notReady: @escaping @Sendable () -> String?,
    _ metrics: @escaping @Sendable () -> String
  ) async -> MetricsAnswer {
    switch path {
    case "/metrics":
      guard let text = try? await WorkerThread.run("metrics", metrics) else {
        return MetricsAnswer(.internalServerError, "no thread\n")
      }
      var answer = MetricsAnswer(.ok, text)
      answer.contentType = MetricsText.contentType
      return answer
    case "/healthz": return MetricsAnswer(.ok, "ok\n")
    case "/readyz":
      if let reason = notReady() { return MetricsAnswer(.serviceUnavailable, reason + "\n") }
      return MetricsAnswer(.ok, "ready\n")
    default: return MetricsAnswer(.notFound, "try /metrics, /healthz or /readyz\n")
    }
  }
}
