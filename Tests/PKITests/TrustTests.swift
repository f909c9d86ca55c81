import Crypto
import Foundation
import Testing
import X509

@testable import PKI

@Suite struct TrustTests {
  private let authority: Authority
  private let trust: PeerTrust
  private let hour = 3600.0

  init() throws {
    authority = try Authority.create(name: "Test")
    trust = PeerTrust(authorities: [authority.certificate])
  }

  private func code(
    _ chain: [HostCertificate], for purpose: PeerTrust.Purpose = .client, _ trust: PeerTrust? = nil
  ) async -> TrustRefusal.Code? {
    do { _ = try await (trust ?? self.trust).judge(chain.map(\.der), for: purpose) } catch {
      #expect(!error.description.isEmpty)
      return error.code
    }
    return nil
  }

  private func host(
    _ names: [HostName] = [.dns("host-a"), .address([10, 0, 0, 1])], from offset: Double = -60,
    days: Int = 1
  ) throws -> HostCertificate {
    try authority.issue(names: names, from: .now.addingTimeInterval(offset), days: days).certificate
  }

  @Test func aGoodCertificate() async throws {
    let host = try host()
    for purpose in [PeerTrust.Purpose.client, .server(host: "host-a"), .server(host: "10.0.0.1")] {
      #expect(await code([host], for: purpose) == nil)
    }
    // Shown with its authority, as some programs do.
    #expect(await code([host, authority.certificate]) == nil)
  }

  @Test func dates() async throws {
    #expect(await code([try host(from: -2 * 86_400)]) == .expired)
    #expect(await code([try host(from: hour)]) == .notYetValid)
    let old = try Authority.create(name: "Old", from: .now.addingTimeInterval(-3 * 86_400), days: 2)
    let fresh = try old.issue(names: [.dns("h")], from: .now.addingTimeInterval(-60), days: 1)
    // It cannot outlive its authority.
    let trust = PeerTrust(authorities: [old.certificate])
    #expect(await code([fresh.certificate], trust) == .expired)
  }

  @Test func names() async throws {
    let host = try host()
    #expect(await code([host], for: .server(host: "host-b")) == .wrongName)
    #expect(await code([host], for: .server(host: "10.0.0.2")) == .wrongName)
    #expect(await code([host], for: .server(host: "")) == .wrongName)
    do {
      _ = try await trust.judge([host.der], for: .server(host: "host-b"))
    } catch {
      #expect(error.description.contains("host-a, 10.0.0.1") && "\(error)".contains("host-b"))
    }
  }

  @Test func otherAuthorities() async throws {
    let sameName = try Authority.create(name: "Test")
    let stranger = try sameName.issue(names: [.dns("host-a")]).certificate
    #expect(await code([stranger]) == .otherAuthority)
    // An authority that the peer brings along is not trusted for that.
    #expect(await code([stranger, sameName.certificate]) == .otherAuthority)
    #expect(await code([]) == .missing)
    #expect(await code([sameName.certificate]) == .wrongUsage)
    #expect(await code([authority.certificate]) == .wrongUsage)
    let both = PeerTrust(authorities: [authority.certificate, sameName.certificate])
    #expect(await code([stranger], both) == nil)
  }

  @Test func revoked() async throws {
    let (bad, good) = (try host(), try host())
    for entry in [bad.serial, bad.fingerprint] {
      let list = try DenyList(parsing: entry, from: "denied")
      let trust = PeerTrust(authorities: [authority.certificate], denyList: list)
      #expect(await code([bad], trust) == .revoked)
      #expect(await code([good], trust) == nil)
    }
  }

  /// Whoever has a certificate can spell its signature in another way that is as good.
  @Test func aRevokedCertificateCannotChangeItsFingerprint() async throws {
    let bad = try host()
    let forms = SignatureForms.spellings(of: bad)
    #expect(forms.contains(bad.der) && forms.contains { $0 != bad.der })
    let list = try DenyList(parsing: bad.fingerprint, from: "denied")
    let trust = PeerTrust(authorities: [authority.certificate], denyList: list)
    var good = 0
    for der in forms {
      let other = try HostCertificate(der: der)
      guard await code([other]) == nil else { continue }  // of another curve
      good += 1
      #expect(await code([other], trust) == .revoked)
    }
    #expect(good == 2)
    // Bits that mean nothing.
    var padded = bad.der
    // The signature is the BIT STRING that reaches to the end; after its length: bits left unused.
    let bits =
      try #require(
        padded.indices.dropLast(4).first {
          padded[$0] == 0x03 && Int(padded[$0 + 1]) == padded.count - $0 - 2
            && padded[$0 + 2] == 0 && padded[$0 + 3] == 0x30
        }) + 2
    padded[bits] = 1
    if let other = try? HostCertificate(der: padded), await code([other]) == nil {
      #expect(await code([other], trust) == .revoked)
    }
  }

  private func selfMade(
    signer: Certificate.PrivateKey? = nil, issuer: Certificate? = nil,
    usage: ExtendedKeyUsage? = nil, keyUsage: KeyUsage = KeyUsage(digitalSignature: true)
  ) throws -> HostCertificate {
    let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
    let name = try DistinguishedName { CommonName("host-a") }
    return try HostCertificate(
      try Certificate(
        version: .v3, serialNumber: .init(), publicKey: key.publicKey,
        notValidBefore: .now.addingTimeInterval(-60), notValidAfter: .now.addingTimeInterval(hour),
        issuer: issuer?.subject ?? name, subject: name,
        extensions: try .init {
          keyUsage
          if let usage { usage }
          SubjectAlternativeNames([.dnsName("host-a")])
        }, issuerPrivateKey: signer ?? key))
  }

  @Test func selfSigned() async throws { #expect(await code([try selfMade()]) == .selfSigned) }

  @Test func usage() async throws {
    let signer = try Certificate.PrivateKey(pemEncoded: try authority.keyPEM)
    let issuer = authority.certificate.certificate
    let server = try selfMade(
      signer: signer, issuer: issuer, usage: try ExtendedKeyUsage([.serverAuth]))
    #expect(await code([server]) == .wrongUsage)
    #expect(await code([server], for: .server(host: "host-a")) == nil)
    let cipherOnly = try selfMade(
      signer: signer, issuer: issuer, keyUsage: KeyUsage(keyEncipherment: true))
    #expect(await code([cipherOnly]) == .wrongUsage)
  }

  /// A host's key signs for another host: the oldest trick.
  @Test func hostsAreNoAuthorities() async throws {
    let host = try authority.issue(names: [.dns("host-a")])
    let signer = try Certificate.PrivateKey(pemEncoded: host.keyPEM)
    let forged = try selfMade(signer: signer, issuer: host.certificate.certificate)
    let found = await code([forged, host.certificate])
    #expect(found == .chain || found == .otherAuthority)
  }

  @Test func hostileBytes() async throws {
    let der = try host().der
    for length in stride(from: 0, to: der.count, by: 7) {
      let cut = await #expect(throws: TrustRefusal.self) {
        try await trust.judge([Array(der.prefix(length))], for: .client)
      }
      #expect(cut?.code == .unreadable)
    }
    var random = SystemRandomNumberGenerator()
    // Behind the signed part are its algorithm and the signature, which has several spellings.
    let signed = der.count - 100
    for _ in 0..<200 {
      var bytes = der
      let at = Int.random(in: 0..<signed, using: &random)
      bytes[at] ^= UInt8(1) << UInt8.random(in: 0..<8, using: &random)
      await #expect(throws: TrustRefusal.self, "bit flipped in byte \(at)") {
        try await trust.judge([bytes], for: .client)
      }
    }
    let many = Array(repeating: der, count: 50)
    await #expect(throws: TrustRefusal.self) { try await trust.judge(many, for: .client) }
  }
}
