import Agent
import ArgumentParser
import Base
import FoundationEssentials
import HostIO
import PKI

struct PKIShowCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Show a host's certificates, and what is wrong with them.",
    discussion: """
      Reads Godwit's folder or the layout of a QEMU or libvirt PKI (--dir /etc/pki). Exits 1 when an \
      agent could not use them.
      """)

  @OptionGroup var folder: PKIFolderOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let inspection = await PKIInspection.look(at: folder.path)
    if output.json {
      try Output.json(inspection)
    } else {
      for certificate in inspection.certificates {
        Output.line(certificate.role)
        for (name, value) in certificate.rows {
          Output.line("  " + TerminalText.pad(name, columns: 12) + TerminalText.plain(value))
        }
      }
      for problem in inspection.problems { Output.error(problem) }
    }
    guard inspection.problems.isEmpty else { throw ExitStatus.failed.exitCode }
  }
}

/// What `godwit pki show` found in a folder.
struct PKIInspection: Encodable {
  let directory: String
  @OrNull var layout: String?
  var certificates: [CertificateReport] = []
  var problems: [String] = []

  static func look(at folder: String) async -> PKIInspection {
    var found = PKIInspection(directory: folder)
    do {
      // Where only the authority is, that is all there is to see.
      if let authority = try? Authority.load(from: folder),
        (try? PKILayout.find(in: folder)) == nil
      {
        found.layout = PKILayout.Kind.godwit.rawValue
        found.certificates.append(CertificateReport(authority.certificate, role: "authority"))
        return found
      }
      let layout = try PKILayout.find(in: folder)
      found.layout = layout.kind.rawValue
      let pki = try HostPKI(layout)
      for authority in pki.authorities {
        found.certificates.append(CertificateReport(authority, role: "authority"))
      }
      let isShared = layout.server == layout.client
      let trust = PeerTrust(authorities: pki.authorities, denyList: try denyList(folder))
      for role in isShared ? [TLSCredentials.Role.server] : [.server, .client] {
        await found.add(pki, role, isShared: isShared, trust)
      }
    } catch {
      found.problems.append("\(error)")
    }
    return found
  }

  private mutating func add(
    _ pki: HostPKI, _ role: TLSCredentials.Role, isShared: Bool, _ trust: PeerTrust
  ) async {
    do {
      let chain = try pki.certificates(role)
      guard let own = chain.first else { return }
      let name = isShared ? "host" : role == .server ? "server" : "client"
      certificates.append(CertificateReport(own, role: name))
      _ = try pki.credentials(role)
      if role == .server, own.names.isEmpty {
        problems.append("the server's certificate is for no host name or address")
      }
      for purpose in isShared
        ? [.client, ownName(own)] : [role == .client ? .client : ownName(own)]
      {
        _ = try await trust.judge(chain.map(\.der), for: purpose)
      }
    } catch {
      problems.append("\(error)")
    }
  }

  /// As a peer sees it that connects by a name of the certificate's.
  private func ownName(_ certificate: HostCertificate) -> PeerTrust.Purpose {
    .server(host: certificate.names.first?.description ?? "")
  }

  private static func denyList(_ folder: String) throws -> DenyList {
    let path = folder + "/denied"
    return SmallFile.exists(path) ? try DenyList.load(path) : DenyList()
  }
}

/// A certificate as it is shown.
struct CertificateReport: Encodable {
  let role, subject, issuer: String
  let names: [String]
  let validFrom, validUntil, serial, sha256: String

  init(_ certificate: HostCertificate, role: String) {
    self.role = role
    (subject, issuer) = (certificate.subject, certificate.issuer)
    names = certificate.names.map(\.description)
    validFrom = Self.text(certificate.validFrom)
    validUntil = Self.text(certificate.validUntil)
    (serial, sha256) = (certificate.serial, certificate.fingerprint)
  }

  var rows: [(String, String)] {
    [
      ("subject", subject), ("issuer", issuer),
      ("names", names.isEmpty ? "-" : names.joined(separator: ", ")),
      ("valid", "\(validFrom) to \(validUntil)"), ("serial", serial), ("sha256", sha256),
    ]
  }

  static func text(_ date: Date) -> String { date.formatted(.iso8601) }
}
