import NIOCore
import NIOSSL

/// What one side shows in a TLS 1.3 handshake: its certificate, and the key that proves it.
///
/// The peer's certificate is asked for and handed on, not judged here: `TLSConnection` says why.
public struct TLSCredentials: Sendable {
  /// Which side of the handshake: the one that connected, or the one that accepted.
  public enum Role: Sendable { case client, server }

  /// How long a close waits for the peer's own, in milliseconds.
  static let closeTimeoutMs: Int64 = 2000

  public let role: Role
  let context: NIOSSLContext

  init(role: Role, context: NIOSSLContext) { (self.role, self.context) = (role, context) }

  /// - Parameters:
  ///   - chain: PEM: the certificate, then those between it and the authority, if any.
  ///   - key: PEM: PKCS#8, or the older forms of RSA and EC keys, unencrypted.
  public init(role: Role, chain: [UInt8], key: [UInt8]) throws(TLSError) {
    do {
      let certificates = try NIOSSLCertificate.fromPEMBytes(chain)
      let privateKey = try NIOSSLPrivateKey(bytes: key, format: .pem)
      var configuration =
        switch role {
        case .client: TLSConfiguration.makeClientConfiguration()
        case .server:
          TLSConfiguration.makeServerConfiguration(
            certificateChain: [], privateKey: .privateKey(privateKey))
        }
      configuration.certificateChain = certificates.map { .certificate($0) }
      configuration.privateKey = .privateKey(privateKey)
      configuration.minimumTLSVersion = .tlsv13
      configuration.maximumTLSVersion = .tlsv13
      // A client without a certificate gets through the handshake, to be told in words what is wrong.
      configuration.certificateVerification =
        role == .client ? .noHostnameVerification : .optionalVerification
      configuration.trustRoots = .certificates([])
      configuration.renegotiationSupport = .none
      configuration.shutdownTimeout = .milliseconds(Self.closeTimeoutMs)
      self.init(role: role, context: try NIOSSLContext(configuration: configuration))
    } catch {
      throw TLSError(
        .credentials, "certificate and key cannot be used together: \(TLSError.reason("\(error)"))")
    }
  }
}
