import Agent
import ArgumentParser
import Foundation
import PKI
import Testing

@testable import CLI

/// The commands themselves; what they write is tested with the target `PKI`.
@Suite struct PKICommandTests {
  private let folder = "/tmp/godwit-pki-\(UUID().uuidString)"

  private func run(_ arguments: String...) async throws {
    var command = try GodwitCommand.parseAsRoot(["pki"] + arguments)
    guard var asynchronous = command as? any AsyncParsableCommand else { return try command.run() }
    try await asynchronous.run()
  }

  @Test func fromNothingToTwoHosts() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let other = folder + "/host-b"
    try await run("init", "--dir", folder, "--name", "Test", "--json")
    #expect(await PKIInspection.look(at: folder).certificates.map(\.role) == ["authority"])
    try await run("host", "host-a", "10.0.0.1", "--dir", folder, "--json")
    try await run("host", "host-b", "--dir", folder, "--out", other, "--days", "7", "--json")
    for path in [folder, other] {
      let found = await PKIInspection.look(at: path)
      #expect(found.problems.isEmpty && found.certificates.map(\.role) == ["authority", "host"])
      #expect(found.layout == "godwit")
    }
    // A host gets no key but its own.
    let files = try FileManager.default.contentsOfDirectory(atPath: other).sorted()
    #expect(files == ["ca.pem", "host-key.pem", "host.pem"])
    await #expect(throws: PKIError.self) { try await run("init", "--dir", folder) }
    await #expect(throws: PKIError.self) { try await run("host", "c", "--dir", folder) }
    try await run("host", "host-c", "--dir", folder, "--force", "--json")
    let renewed = await PKIInspection.look(at: folder).certificates.last
    #expect(renewed?.names == ["host-c"])
  }

  @Test func problemsAreShown() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    #expect(await PKIInspection.look(at: folder).problems.first?.contains("pki init") == true)
    await #expect(throws: (any Error).self) { try await run("show", "--dir", folder, "--json") }
    try await run("init", "--dir", folder, "--json")
    try await run("host", "host-a", "--dir", folder, "--json")
    let serial = try #require(await PKIInspection.look(at: folder).certificates.last?.serial)
    try Data("serial \(serial)\n".utf8).write(to: URL(filePath: folder + "/denied"))
    #expect(await PKIInspection.look(at: folder).problems.first?.contains("revoked") == true)
    try FileManager.default.removeItem(atPath: folder + "/denied")
    try FileManager.default.setAttributes(
      [.posixPermissions: 0o644], ofItemAtPath: folder + "/host-key.pem")
    #expect(await PKIInspection.look(at: folder).problems.first?.contains("chmod 0600") == true)
  }

  @Test(arguments: [
    ["host"], ["host", "a b"], ["host", "-x"], ["host", "a", "--days", "0"],
    ["init", "--days", "99999"], ["init", "--name", ""],
  ])
  func wrongUsage(arguments: [String]) {
    #expect(throws: (any Error).self) { try GodwitCommand.parseAsRoot(["pki"] + arguments) }
  }

  @Test func agentsTakeTheFlags() throws {
    let plain = try AgentOptions.parse(["--insecure"]).load()
    #expect(plain.tls.insecure && !plain.tls.insecureNetwork)
    let network = try AgentOptions.parse(["--insecure", "--insecure-network"]).load()
    #expect(network.tls.insecureNetwork)
  }
}
