import HostIO
import Synchronization

/// A client's connection, from when it was let in until nothing of it is being carried out.
final class OpenConnection: Sendable {
  /// In the order in which they came.
  let id: UInt64
  let socket: StreamSocket
  private let hasFence = Atomic(false)

  init(_ id: UInt64, _ socket: StreamSocket) { (self.id, self.socket) = (id, socket) }

  /// Whether its client counts no more: nothing that has arrived is begun with.
  var isFenced: Bool { hasFence.load(ordering: .sequentiallyConsistent) }

  func fence() {
    hasFence.store(true, ordering: .sequentiallyConsistent)
    socket.shutdown()
  }
}
