import NIOCore
import Synchronization

/// A connection that was accepted and that nobody serves yet.
///
/// The stream of a listening channel drops what it holds when it ends, and NIO traps when an
/// asynchronous channel is dropped unfinished. So one that nobody took is finished and closed here: a
/// client that connects while the agent ends must not crash it.
final class AcceptedClient<Inbound: Sendable, Outbound: Sendable>: Sendable {
  typealias Connection = NIOAsyncChannel<Inbound, Outbound>

  private let connection: Mutex<Connection?>

  init(_ connection: Connection) { self.connection = Mutex(connection) }

  deinit {
    guard let connection = take() else { return }
    Task { try? await connection.executeThenClose { _, _ in } }
  }

  /// The connection; whoever takes it closes it. Nil when it was taken before.
  func take() -> Connection? {
    connection.withLock { connection in
      defer { connection = nil }
      return connection
    }
  }
}
