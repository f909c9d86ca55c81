import HostIO
import PKI

/// Why two agents don't trust each other enough to talk.
struct SecurityError: Error, Hashable, Sendable, CustomStringConvertible {
  let cause, remedy: String

  init(_ cause: String, remedy: String) { (self.cause, self.remedy) = (cause, remedy) }

  var description: String { "\(cause). Remedy: \(remedy)" }

  static let seeFiles = "see `godwit pki show` on both hosts"

  /// The texts are for the peer.
  static let wantsTLS = SecurityError(
    "this agent speaks TLS only, and the peer plain TCP",
    remedy: "start the peer's agent without --insecure, with certificates of this agent's authority"
  )
  static let wantsPlain = SecurityError(
    "this agent speaks plain TCP (--insecure), and the peer TLS",
    remedy: "start this agent without --insecure")
}

extension Refusal {
  /// A migration that cannot begin because of certificates; nil for any other error.
  init?(security error: any Error) {
    switch error {
    case let error as SecurityError: self.init(.peerSecurity, error.cause, remedy: error.remedy)
    case let error as TLSError:
      self.init(.peerSecurity, error.description, remedy: SecurityError.seeFiles)
    case let error as PKIError:
      self.init(.peerSecurity, error.description, remedy: SecurityError.seeFiles)
    default: return nil
    }
  }
}
