import Base
import HostIO
import QEMUStream
import Wire

/// Why a relay stopped; each case says which side of it broke.
enum RelayFailure: Error, Sendable, CustomStringConvertible {
  /// The connection to the other agent: broken, silent, or ended early.
  case peer(String)
  /// Bytes were changed on the way; the connection is given up and opened again.
  case corrupt(String)
  /// The other agent broke the protocol.
  case protocolViolation(String)
  /// The local QEMU's migration socket.
  case qemu(String)
  /// Guest memory could not be read or written.
  case memory(String)
  /// Stopped on purpose.
  case stopped

  var description: String {
    switch self {
    case .peer(let text): "connection between the agents: \(text)"
    case .corrupt(let text): "the network changed bytes on their way: \(text)"
    case .protocolViolation(let text): "the other agent broke the protocol: \(text)"
    case .qemu(let text): "QEMU's migration stream: \(text)"
    case .memory(let text): text
    case .stopped: "stopped"
    }
  }
}
