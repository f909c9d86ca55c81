import Foundation
import HostIO
import Testing

@testable import PKI

/// A folder that goes away with its owner.
final class ScratchFolder: Sendable {
  let path = "/tmp/godwit-pki-\(UUID().uuidString)"

  init() throws {
    try FileManager.default.createDirectory(
      atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { path + "/" + name }

  func mode(_ name: String) throws -> Int {
    let attributes = try FileManager.default.attributesOfItem(atPath: file(name))
    return try #require(attributes[.posixPermissions] as? Int)
  }
}

/// Runs blocking work on a thread of its own: tests share the cooperative pool with each other.
func onThread<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
  try await withCheckedThrowingContinuation { continuation in
    _ = WorkerThread("test") { continuation.resume(with: Result { try body() }) }
  }
}

extension Authority {
  /// Both ends of a connection, for tests of the connection itself.
  func credentials(_ role: TLSCredentials.Role) throws -> TLSCredentials {
    let host = try issue(names: [.dns("localhost"), .address([127, 0, 0, 1])])
    return try TLSCredentials(
      role: role, chain: Array(host.certificate.pem.utf8), key: Array(host.keyPEM.utf8))
  }
}
