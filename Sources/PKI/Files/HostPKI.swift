import Crypto
public import HostIO
import X509

/// What a host has: the authorities it trusts, and its own certificates with their keys.
public struct HostPKI: Sendable {
  public let layout: PKILayout
  public let authorities: [HostCertificate]

  /// Reads the authorities; the rest is read when it is used.
  public init(_ layout: PKILayout) throws(PKIError) {
    self.layout = layout
    authorities = try HostCertificate.all(
      pem: try PrivateFile.readText(layout.authority), from: layout.authority)
    for authority in authorities where !authority.isAuthority {
      throw PKIError("\(layout.authority): \(authority.subject) is no authority's certificate")
    }
  }

  func pair(_ role: TLSCredentials.Role) -> PKILayout.Pair {
    role == .server ? layout.server : layout.client
  }

  /// The certificate shown in a role, then those between it and the authority.
  public func certificates(_ role: TLSCredentials.Role) throws(PKIError) -> [HostCertificate] {
    let path = pair(role).certificate
    return try HostCertificate.all(pem: try PrivateFile.readText(path), from: path)
  }

  /// Certificate and key, ready for connections.
  public func credentials(_ role: TLSCredentials.Role) throws(PKIError) -> TLSCredentials {
    let pair = pair(role)
    let key = try PrivateFile.readKey(pair.key)
    if String(decoding: key, as: UTF8.self).contains("ENCRYPTED") {
      throw PKIError("\(pair.key) is encrypted; agents need a key without a passphrase")
    }
    do {
      return try TLSCredentials(role: role, chain: try PrivateFile.read(pair.certificate), key: key)
    } catch let error as TLSError {
      throw PKIError("\(pair.certificate) and \(pair.key): \(error)")
    } catch let error as PKIError {
      throw error
    } catch {
      throw PKIError("\(error)")
    }
  }
}
