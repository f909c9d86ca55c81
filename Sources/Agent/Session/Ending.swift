/// Why a migration ends without having moved the guest. The guest stays at the source.
enum Ending: Error, Sendable {
  /// A check said no; nothing was changed.
  case refused([Refusal])
  case failed(String)
  case cancelled
  /// The source's QEMU is gone, and the destination has not all of the guest.
  case sourceLost(String)
}

extension Ending {
  /// What a message of the destination's ends the migration with; nil: nothing.
  init?(_ message: PeerMessage) {
    switch message {
    case .failed(let reason): self = .failed("at the destination: \(reason)")
    case .abort(let reason): self = .failed("given up by the destination: \(reason)")
    case .refused(let refusals): self = .refused(refusals)
    default: return nil
    }
  }
}

extension Ending: CustomStringConvertible {
  var description: String {
    switch self {
    case .refused(let refusals): refusals.map(\.description).joined(separator: "\n")
    case .failed(let text), .sourceLost(let text): text
    case .cancelled: "cancelled"
    }
  }
}
