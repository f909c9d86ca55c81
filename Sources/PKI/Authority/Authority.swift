import Crypto
import FoundationEssentials
import SwiftASN1
import X509

/// An authority of one's own: signs the certificates of hosts.
public struct Authority: Sendable {
  public static let daysDefault = 3650
  public static let hostDaysDefault = 825
  public static let daysMax = 36500
  /// Certificates are valid from this long ago on: hosts' clocks differ.
  static let backdateSeconds = 300.0

  public let certificate: HostCertificate
  private let key: Certificate.PrivateKey

  /// Makes a new one; its key exists nowhere else yet.
  public static func create(name: String, days: Int = daysDefault) throws(PKIError) -> Authority {
    try create(name: name, from: .now.addingTimeInterval(-backdateSeconds), days: days)
  }

  static func create(name: String, from start: Date, days: Int) throws(PKIError) -> Authority {
    let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
    do {
      let subject = try DistinguishedName { CommonName(name) }
      let identifier = SubjectKeyIdentifier(hash: key.publicKey)
      let certificate = try Certificate(
        version: .v3, serialNumber: .init(), publicKey: key.publicKey, notValidBefore: start,
        notValidAfter: start.addingTimeInterval(seconds(days)), issuer: subject, subject: subject,
        signatureAlgorithm: .ecdsaWithSHA256,
        extensions: try .init {
          Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
          Critical(KeyUsage(keyCertSign: true, cRLSign: true))
          identifier
        }, issuerPrivateKey: key)
      return Authority(certificate: try HostCertificate(certificate), key: key)
    } catch {
      throw PKIError("the authority cannot be made: \(error)")
    }
  }

  private init(certificate: HostCertificate, key: Certificate.PrivateKey) {
    (self.certificate, self.key) = (certificate, key)
  }

  /// Reads the authority that `godwit pki init` made in `folder`.
  public static func load(from folder: String) throws(PKIError) -> Authority {
    let (certificatePath, keyPath) = (folder + "/ca.pem", folder + "/ca-key.pem")
    let pem = String(decoding: try PrivateFile.readKey(keyPath), as: UTF8.self)
    let key: Certificate.PrivateKey
    // What is wrong with a key is not repeated: errors may quote it.
    do { key = try Certificate.PrivateKey(pemEncoded: pem) } catch {
      throw PKIError("\(keyPath): not a private key that can be used")
    }
    let certificates = try HostCertificate.all(
      pem: try PrivateFile.readText(certificatePath), from: certificatePath)
    guard let own = certificates.first(where: { $0.certificate.publicKey == key.publicKey }) else {
      throw PKIError("\(keyPath) is not the key of \(certificatePath)")
    }
    return Authority(certificate: own, key: key)
  }

  var keyPEM: String {
    get throws(PKIError) { try Self.text(of: key) }
  }

  /// Signs a certificate for a host, for both sides of a connection, with a new key.
  public func issue(
    names: [HostName], days: Int = hostDaysDefault
  ) throws(PKIError) -> IssuedHost {
    try issue(names: names, from: .now.addingTimeInterval(-Self.backdateSeconds), days: days)
  }

  func issue(names: [HostName], from start: Date, days: Int) throws(PKIError) -> IssuedHost {
    let hostKey = Certificate.PrivateKey(P256.Signing.PrivateKey())
    let end = min(start.addingTimeInterval(Self.seconds(days)), certificate.validUntil)
    do {
      let alternatives = SubjectAlternativeNames(
        names.map { name -> GeneralName in
          switch name {
          case .dns(let text): .dnsName(text)
          case .address(let bytes): .ipAddress(ASN1OctetString(contentBytes: bytes[...]))
          }
        })
      let usage = try ExtendedKeyUsage([.serverAuth, .clientAuth])
      let identifier = SubjectKeyIdentifier(hash: hostKey.publicKey)
      let issuerIdentifier = SubjectKeyIdentifier(hash: key.publicKey).keyIdentifier
      let issued = try Certificate(
        version: .v3, serialNumber: .init(), publicKey: hostKey.publicKey, notValidBefore: start,
        notValidAfter: end, issuer: certificate.certificate.subject,
        subject: try DistinguishedName { CommonName(names.first?.description ?? "host") },
        extensions: try .init {
          Critical(BasicConstraints.notCertificateAuthority)
          Critical(KeyUsage(digitalSignature: true))
          usage
          alternatives
          identifier
          AuthorityKeyIdentifier(keyIdentifier: issuerIdentifier)
        }, issuerPrivateKey: key)
      return IssuedHost(
        certificate: try HostCertificate(issued), keyPEM: try Self.text(of: hostKey))
    } catch {
      throw PKIError("the certificate cannot be made: \(error)")
    }
  }

  private static func text(of key: Certificate.PrivateKey) throws(PKIError) -> String {
    do { return try key.serializeAsPEM().pemString + "\n" } catch {
      throw PKIError("the key cannot be written")
    }
  }

  private static func seconds(_ days: Int) -> Double { Double(days) * 86_400 }
}

/// A host's certificate fresh from the authority, with its key.
public struct IssuedHost: Sendable {
  public let certificate: HostCertificate
  /// Secret: for one file with mode 0600, never for a log.
  let keyPEM: String
}
