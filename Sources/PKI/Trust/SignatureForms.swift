import Crypto
import SwiftASN1

/// Other spellings of a certificate that are as valid as the one that was shown.
///
/// An ECDSA signature (r, s) is as good as (r, n − s), and anybody can compute the second. Who has a
/// certificate whose fingerprint is on a deny list must not get in with the other spelling.
enum SignatureForms {
  /// Fingerprints of all spellings, that of the certificate as shown included.
  static func fingerprints(of certificate: HostCertificate) -> Set<String> {
    var all = Set(spellings(of: certificate).map(HostCertificate.fingerprint))
    all.insert(certificate.fingerprint)
    return all
  }

  /// Canonical DER with each signature; empty when the signature isn't one of ECDSA.
  static func spellings(of certificate: HostCertificate) -> [[UInt8]] {
    guard let parts = try? Parts(certificate.der) else { return [] }
    var values = [parts.s]
    for order in orders {
      if let other = subtract(parts.s, from: order) { values.append(other) }
    }
    return values.compactMap { try? parts.encoded(s: $0) }
  }

  /// A certificate of X.509 around an ECDSA signature.
  private struct Parts {
    let signed, algorithm: ArraySlice<UInt8>
    let r: ArraySlice<UInt8>
    /// Without leading zeros.
    let s: [UInt8]

    init(_ der: [UInt8]) throws {
      let (signed, signature) = try DER.sequence(try DER.parse(der), identifier: .sequence) {
        nodes in
        guard let signed = nodes.next(), nodes.next() != nil, let last = nodes.next() else {
          throw ASN1Error.invalidASN1Object(reason: "no certificate")
        }
        return (signed, try ASN1BitString(derEncoded: last))
      }
      self.signed = signed.encodedBytes
      // The copy that is signed, not the one outside.
      algorithm = try DER.sequence(signed, identifier: .sequence) { nodes in
        var algorithm: ASN1Node?
        while let node = nodes.next() {
          if algorithm == nil, node.identifier == .sequence { algorithm = node }
        }
        guard let algorithm else { throw ASN1Error.invalidASN1Object(reason: "no algorithm") }
        return algorithm.encodedBytes
      }
      (r, s) = try DER.sequence(try DER.parse(signature.bytes), identifier: .sequence) { nodes in
        let r = try ArraySlice<UInt8>(derEncoded: &nodes)
        let s = try ArraySlice<UInt8>(derEncoded: &nodes)
        return (r, Array(s.drop { $0 == 0 }))
      }
    }

    func encoded(s: [UInt8]) throws -> [UInt8] {
      var signature = DER.Serializer()
      try signature.appendConstructedNode(identifier: .sequence) { body in
        try body.serialize(r)
        // An integer's first bit is its sign.
        try body.serialize((s.first ?? 0) & 0x80 == 0 ? s[...] : ([0] + s)[...])
      }
      var whole = DER.Serializer()
      try whole.appendConstructedNode(identifier: .sequence) { body in
        body.serializeRawBytes(signed)
        body.serializeRawBytes(algorithm)
        try body.serialize(ASN1BitString(bytes: signature.serializedBytes[...]))
      }
      return whole.serializedBytes
    }
  }

  /// `order - value`, both big-endian, without leading zeros; nil when that isn't positive.
  static func subtract(_ value: [UInt8], from order: [UInt8]) -> [UInt8]? {
    guard value.count <= order.count else { return nil }
    var (result, borrow) = (order, 0)
    for index in 0..<order.count {
      let at = order.count - 1 - index
      let digit = index < value.count ? Int(value[value.count - 1 - index]) : 0
      var difference = Int(order[at]) - digit - borrow
      borrow = difference < 0 ? 1 : 0
      difference += borrow * 256
      result[at] = UInt8(truncatingIfNeeded: difference)  // 0...255
    }
    let trimmed = Array(result.drop { $0 == 0 })
    return borrow == 0 && !trimmed.isEmpty ? trimmed : nil
  }

  /// Orders of the groups of P-256, P-384 and P-521 (FIPS 186-5).
  private static let orders: [[UInt8]] = [
    "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
  ].map { text in
    let digits = text.compactMap(\.hexDigitValue)
    return stride(from: 0, to: digits.count - 1, by: 2).map {
      UInt8(truncatingIfNeeded: digits[$0] << 4 | digits[$0 + 1])
    }
  }
}
