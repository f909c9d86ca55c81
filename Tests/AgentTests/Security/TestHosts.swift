import Base
import Foundation
import HostIO
import Testing

@testable import Agent
@testable import PKI

/// Hosts with certificates, in folders that go away with them.
final class TestHosts: Sendable {
  let path = "/tmp/godwit-hosts-\(UUID().uuidString)"

  init() throws {
    try FileManager.default.createDirectory(
      atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    for name in ["authority", "stranger"] {
      _ = try PKIFolder.makeAuthority(
        in: "\(path)/\(name)", name: name, days: 10, replacing: false)
    }
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }

  func folder(_ host: String) -> String { "\(path)/\(host)" }

  /// Makes `host` a member.
  @discardableResult
  func add(
    _ host: String, names: [String] = ["127.0.0.1"], by authority: String = "authority",
    from offset: Double = -60, days: Int = 5, trusting trusted: String = "authority"
  ) throws -> HostCertificate {
    let issued = try Authority.load(from: folder(authority)).issue(
      names: [try #require(HostName(host))] + names.compactMap { HostName($0) },
      from: .now.addingTimeInterval(offset), days: days)
    try FileManager.default.createDirectory(
      atPath: folder(host), withIntermediateDirectories: true)
    let layout = PKILayout.godwit(folder(host))
    try PrivateFile.write(issued.keyPEM, to: layout.server.key, mode: 0o600, replacing: true)
    try PrivateFile.write(
      issued.certificate.pem, to: layout.server.certificate, mode: 0o644, replacing: true)
    try PrivateFile.write(
      try PrivateFile.readText(folder(trusted) + "/ca.pem"), to: layout.authority, mode: 0o644,
      replacing: true)
    return issued.certificate
  }

  func configuration(_ host: String) -> AgentConfiguration {
    var configuration = AgentConfiguration()
    configuration.tls.directory = folder(host)
    return configuration
  }

  func security(_ host: String) -> PeerSecurity { PeerSecurity(configuration(host)) }

  static func sockets() throws -> (client: StreamSocket, server: StreamSocket) {
    let listener = try TCPSocket.listen(host: "127.0.0.1", port: 0)
    let port = try #require(TCPSocket.localPort(of: listener))
    let client = try TCPSocket.connect(host: "127.0.0.1", port: port, timeoutMs: 10_000)
    return (client, TCPSocket.tuned(try #require(try listener.accept(timeoutMs: 10_000))))
  }

  /// What each side says of a connection; nil: it is open.
  static func meet(
    _ near: PeerSecurity, _ far: PeerSecurity, as host: String = "127.0.0.1"
  ) async throws -> (client: String?, server: String?) {
    let (client, server) = try sockets()
    async let there = Blocking.run { () -> String? in
      do { try far.server(server, timeoutMs: 60_000).finish() } catch {
        server.shutdown()
        return "\(error)"
      }
      return nil
    }
    let here = try await Blocking.run { () -> String? in
      do { try near.client(client, host: host, timeoutMs: 60_000).finish() } catch {
        client.shutdown()
        return "\(error)"
      }
      return nil
    }
    return (here, try await there)
  }
}
