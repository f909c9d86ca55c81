/// Why a certificate isn't good enough. Both sides read the text.
public struct TrustRefusal: Error, Hashable, Sendable, CustomStringConvertible {
  /// What is wrong with the certificate.
  public enum Code: String, Sendable, CaseIterable {
    case missing, unreadable, notYetValid, expired, selfSigned, otherAuthority, authorityExpired
    case wrongName, wrongUsage, revoked, chain
  }

  public let code: Code
  public let description: String

  init(_ code: Code, _ description: String) { (self.code, self.description) = (code, description) }
}
