import Crypto
public import FoundationEssentials
import SwiftASN1
import X509

/// A certificate, with what Godwit looks at in it.
public struct HostCertificate: Sendable, Hashable {
  let certificate: Certificate
  public let der: [UInt8]

  /// - Throws: when the bytes are no certificate.
  public init(der: [UInt8]) throws(PKIError) {
    do { certificate = try Certificate(derEncoded: der) } catch {
      throw PKIError("not a certificate that can be read (\(error))")
    }
    self.der = der
  }

  init(_ certificate: Certificate) throws(PKIError) {
    var serializer = DER.Serializer()
    do { try serializer.serialize(certificate) } catch {
      throw PKIError("the certificate cannot be written (\(error))")
    }
    (self.certificate, der) = (certificate, serializer.serializedBytes)
  }

  /// All certificates of a PEM text; other blocks are passed over.
  public static func all(pem: String, from path: String) throws(PKIError) -> [HostCertificate] {
    let documents: [PEMDocument]
    do { documents = try PEMDocument.parseMultiple(pemString: pem) } catch {
      throw PKIError("\(path): not PEM (\(error))")
    }
    var certificates: [HostCertificate] = []
    for document in documents where document.discriminator == "CERTIFICATE" {
      do throws(PKIError) { certificates.append(try HostCertificate(der: document.derBytes)) } catch
      {
        throw PKIError("\(path): \(error)")
      }
    }
    guard !certificates.isEmpty else { throw PKIError("\(path): no certificate in it") }
    return certificates
  }

  /// One PEM block, with a line break at its end.
  public var pem: String {
    PEMDocument(type: "CERTIFICATE", derBytes: der).pemString + "\n"
  }

  /// The names it is for; the common name only where there are no others, as in older PKIs.
  public var names: [HostName] {
    let alternative = (try? certificate.extensions.subjectAlternativeNames) ?? nil
    let names = (alternative ?? .init()).compactMap { name -> HostName? in
      switch name {
      case .dnsName(let text): HostName(text)
      case .ipAddress(let bytes): HostName.address(Array(bytes.bytes))
      default: nil
      }
    }
    if !names.isEmpty { return names }
    return commonName.flatMap { HostName($0) }.map { [$0] } ?? []
  }

  /// The subject's first; nil where it has none. What the certificate is for, `names` says.
  public var commonName: String? {
    for attributes in certificate.subject {
      for attribute in attributes where attribute.type == .RDNAttributeType.commonName {
        return String(describing: attribute.value)
      }
    }
    return nil
  }

  /// Every name the peer may be called by in rules: those it is for, and its common name.
  public var allNames: [String] {
    var all = names.map(\.description)
    if let commonName, !all.contains(commonName) { all.append(commonName) }
    return all
  }

  public var subject: String { "\(certificate.subject)" }
  public var issuer: String { "\(certificate.issuer)" }
  public var validFrom: Date { certificate.notValidBefore }
  public var validUntil: Date { certificate.notValidAfter }

  /// For messages: `host-b, 10.0.0.2`, or the subject when it is for no host.
  public var title: String {
    let names = names.prefix(8).map(\.description)
    return names.isEmpty ? subject : names.joined(separator: ", ")
  }

  /// Whether its basic constraints let it sign others; false where they are missing or can't be
  /// read.
  public var isAuthority: Bool {
    if case .isCertificateAuthority? = try? certificate.extensions.basicConstraints { return true }
    return false
  }

  /// SHA-256 of the whole certificate, hexadecimal.
  public var fingerprint: String { Self.fingerprint(der) }

  static func fingerprint(_ der: [UInt8]) -> String {
    SHA256.hash(data: der).map { HexText.byte($0) }.joined()
  }

  /// Hexadecimal, without leading zeros.
  public var serial: String {
    HexText.normal(certificate.serialNumber.bytes.map { HexText.byte($0) }.joined())
  }
}

/// Hexadecimal digits as this target writes and compares them: lower case.
enum HexText {
  static func byte(_ byte: UInt8) -> String {
    let text = String(byte, radix: 16)
    return text.count == 1 ? "0" + text : text
  }

  /// Without leading zeros; "0" stays.
  static func normal(_ text: String) -> String {
    let rest = text.lowercased().drop { $0 == "0" }
    return rest.isEmpty ? "0" : String(rest)
  }
}
