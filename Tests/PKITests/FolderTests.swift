import CryptoExtras
import Foundation
import HostIO
import SwiftASN1
import Testing
import X509

@testable import PKI

@Suite struct FolderTests {
  private func makeBoth(_ folder: ScratchFolder, replacing: Bool = false) throws {
    _ = try PKIFolder.makeAuthority(
      in: folder.path, name: "Test", days: 10, replacing: replacing)
    _ = try PKIFolder.issueHost(
      from: folder.path, names: [.dns("host-a")], days: 5, output: folder.path,
      replacing: replacing)
  }

  @Test func keysAreTheOwnersAlone() throws {
    let folder = try ScratchFolder()
    try makeBoth(folder)
    for name in ["ca-key.pem", "host-key.pem"] { #expect(try folder.mode(name) == 0o600) }
    for name in ["ca.pem", "host.pem"] { #expect(try folder.mode(name) == 0o644) }
    let pki = try HostPKI(try PKILayout.find(in: folder.path))
    for role in [TLSCredentials.Role.server, .client] { _ = try pki.credentials(role) }
    #expect(try pki.certificates(.server).first?.names == [.dns("host-a")])
  }

  @Test func nothingIsReplacedByAccident() throws {
    let folder = try ScratchFolder()
    try makeBoth(folder)
    let files = ["ca.pem", "ca-key.pem", "host.pem", "host-key.pem"].map(folder.file)
    let before = try files.map { try SmallFile.read($0) }
    #expect(throws: PKIError.self) { try makeBoth(folder) }
    #expect {
      try PKIFolder.issueHost(
        from: folder.path, names: [.dns("b")], days: 5, output: folder.path, replacing: false)
    } throws: { "\($0)".contains("--force") }
    #expect(try files.map { try SmallFile.read($0) } == before)
    try makeBoth(folder, replacing: true)
    let after = try files.map { try SmallFile.read($0) }
    #expect(zip(before, after).allSatisfy { $0 != $1 })
  }

  @Test(arguments: [0o644, 0o604, 0o660, 0o620]) func aKeyThatOthersMayUseIsRefused(
    mode: Int
  ) throws {
    let folder = try ScratchFolder()
    try makeBoth(folder)
    let key = folder.file("host-key.pem")
    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: key)
    let pki = try HostPKI(try PKILayout.find(in: folder.path))
    #expect { try pki.credentials(.server) } throws: { "\($0)".contains("chmod 0600 \(key)") }
  }

  @Test func keyAndCertificateMustBelongTogether() throws {
    let (one, other) = (try ScratchFolder(), try ScratchFolder())
    try makeBoth(one)
    try makeBoth(other)
    let pki = try HostPKI(try PKILayout.find(in: one.path))
    try FileManager.default.removeItem(atPath: one.file("host-key.pem"))
    try FileManager.default.copyItem(
      atPath: other.file("host-key.pem"), toPath: one.file("host-key.pem"))
    #expect(throws: PKIError.self) { try pki.credentials(.server) }
  }

  /// What is wrong with a key must not end up in a log with the key.
  @Test func errorsDoNotQuoteKeys() throws {
    let folder = try ScratchFolder()
    try makeBoth(folder)
    let secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ"
    for name in ["host-key.pem", "ca-key.pem"] {
      try SmallFile.write(
        Array("-----BEGIN PRIVATE KEY-----\n\(secret)\n-----END PRIVATE KEY-----\n".utf8),
        to: folder.file(name), mode: 0o600)
    }
    let pki = try HostPKI(try PKILayout.find(in: folder.path))
    for attempt in [
      { _ = try pki.credentials(.server) }, { _ = try Authority.load(from: folder.path) },
    ] {
      #expect { try attempt() } throws: { !"\($0)".contains(secret) && $0 is PKIError }
    }
  }

  @Test func anEmptyFolderSaysWhatToDo() throws {
    let folder = try ScratchFolder()
    #expect { try PKILayout.find(in: folder.path) } throws: {
      "\($0)".contains("godwit pki init") && "\($0)".contains("godwit pki host NAME")
    }
  }
}

/// Certificates as QEMU's and libvirt's documents have them made: RSA, a pair for each side.
@Suite struct ForeignLayoutTests {
  private func issue(
    _ authority: Authority, _ usage: ExtendedKeyUsage.Usage, to folder: ScratchFolder,
    certificate: String, key: String
  ) throws {
    let rsa = try _RSA.Signing.PrivateKey(keySize: .bits2048)
    let signer = try Certificate.PrivateKey(pemEncoded: try authority.keyPEM)
    let hostKey = Certificate.PrivateKey(rsa)
    let issued = try Certificate(
      version: .v3, serialNumber: .init(), publicKey: hostKey.publicKey,
      notValidBefore: .now.addingTimeInterval(-60), notValidAfter: .now.addingTimeInterval(3600),
      issuer: authority.certificate.certificate.subject,
      subject: try DistinguishedName { CommonName("host-a") },
      extensions: try .init {
        Critical(BasicConstraints.notCertificateAuthority)
        Critical(KeyUsage(digitalSignature: true, keyEncipherment: true))
        Critical(try ExtendedKeyUsage([usage]))
        if usage == .serverAuth { SubjectAlternativeNames([.dnsName("host-a")]) }
      }, issuerPrivateKey: signer)
    for name in [certificate, key] {
      let parent = (folder.file(name) as NSString).deletingLastPathComponent
      try FileManager.default.createDirectory(
        atPath: parent, withIntermediateDirectories: true)
    }
    try SmallFile.write(
      Array(try HostCertificate(issued).pem.utf8), to: folder.file(certificate))
    // The older form, as certtool and openssl genrsa write it.
    try SmallFile.write(Array(rsa.pemRepresentation.utf8), to: folder.file(key), mode: 0o600)
  }

  private func check(_ folder: ScratchFolder, _ kind: PKILayout.Kind) async throws {
    let layout = try PKILayout.find(in: folder.path)
    #expect(layout.kind == kind)
    let pki = try HostPKI(layout)
    let trust = PeerTrust(authorities: pki.authorities)
    for (role, purpose) in [
      (TLSCredentials.Role.server, PeerTrust.Purpose.server(host: "host-a")), (.client, .client),
    ] {
      _ = try pki.credentials(role)
      let chain = try pki.certificates(role).map(\.der)
      let peer = try await trust.judge(chain, for: purpose)
      #expect(peer.allNames == ["host-a"])
      // Each is for one side alone.
      let wrong = role == .server ? PeerTrust.Purpose.client : .server(host: "host-a")
      await #expect { try await trust.judge(chain, for: wrong) } throws: {
        ($0 as? TrustRefusal)?.code == .wrongUsage
      }
    }
  }

  @Test func qemu() async throws {
    let folder = try ScratchFolder()
    let authority = try Authority.create(name: "QEMU")
    try SmallFile.write(
      Array(authority.certificate.pem.utf8), to: folder.file("ca-cert.pem"))
    try issue(
      authority, .serverAuth, to: folder, certificate: "server-cert.pem", key: "server-key.pem")
    try issue(
      authority, .clientAuth, to: folder, certificate: "client-cert.pem", key: "client-key.pem")
    try await check(folder, .qemu)
  }

  @Test func libvirt() async throws {
    let folder = try ScratchFolder()
    let authority = try Authority.create(name: "libvirt")
    try FileManager.default.createDirectory(
      atPath: folder.file("CA"), withIntermediateDirectories: true)
    try SmallFile.write(Array(authority.certificate.pem.utf8), to: folder.file("CA/cacert.pem"))
    try issue(
      authority, .serverAuth, to: folder, certificate: "libvirt/servercert.pem",
      key: "libvirt/private/serverkey.pem")
    try issue(
      authority, .clientAuth, to: folder, certificate: "libvirt/clientcert.pem",
      key: "libvirt/private/clientkey.pem")
    try await check(folder, .libvirt)
  }
}
