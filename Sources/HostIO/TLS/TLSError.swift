import NIOCore
import NIOSSL

/// Why there is no encrypted connection. Says what the peer did, and what may be the matter.
public struct TLSError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What happened, as far as it calls for different remedies.
  public enum Code: Sendable {
    /// The peer's first bytes are no TLS.
    case plainPeer
    /// The peer has no version of TLS that this side accepts.
    case version
    /// The connection ended, or broke, before both sides had agreed.
    case ended
    /// Nothing came in time.
    case silent
    /// Anything else that TLS itself refuses.
    case handshake
    /// This side's own certificate or key.
    case credentials
  }

  public let code: Code
  public let description: String

  public init(_ code: Code, _ description: String) {
    (self.code, self.description) = (code, description)
  }

  /// The failure of a handshake with `peer`, from what NIO and BoringSSL say of it.
  static func handshake(_ error: any Error, with peer: String) -> TLSError {
    let text = "\(error)"
    func has(_ words: String...) -> Bool { words.contains { text.contains($0) } }
    if has("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST") {
      return TLSError(
        .plainPeer,
        "\(peer) doesn't speak TLS; if its agent runs with --insecure, start it without")
    }
    if has("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "NO_SUPPORTED_VERSIONS_ENABLED") {
      return TLSError(.version, "\(peer) doesn't speak TLS 1.3, which agents need")
    }
    if has("EOF during", "CLOSE_NOTIFY") || error is ChannelError {
      return TLSError(.ended, "\(peer) closed the connection during the TLS handshake")
    }
    if let error = error as? IOError {
      return TLSError(.ended, "TLS handshake with \(peer): \(error)")
    }
    return TLSError(.handshake, "TLS handshake with \(peer): \(reason(text))")
  }

  /// BoringSSL's own word for an error: `SSL routines:OPENSSL_internal:BAD_SIGNATURE` ends in it.
  static func reason(_ text: String) -> String {
    let words = text.split { !($0.isLetter && $0.isASCII || $0.isNumber || $0 == "_") }
    let shouted = words.last {
      $0.count > 4 && $0.contains("_")
        && $0.allSatisfy { $0.isUppercase || $0 == "_" || $0.isNumber }
    }
    return shouted.map { $0.lowercased().replacing("_", with: " ") } ?? String(text.prefix(200))
  }
}
