import HostIO

extension HostPair {
  /// Takes the migration link down, or up again. What is sent meanwhile is lost without a word.
  func setLink(up: Bool) async throws {
    guard kind == .namespaces else { throw LabError("loopback has no link to cut") }
    try await namespace(.source).ip(
      "link", "set", Self.migrationInterface, up ? "up" : "down")
  }

  /// Leaves a part of the link's rate, in both directions; 1: all of it.
  func slowLink(divisor: UInt64) async throws {
    guard kind == .namespaces else { throw LabError("loopback has no link to slow down") }
    for side in Side.allCases { try await shapeLink(side, "change", divisor: divisor) }
  }

  /// Resets every connection between the hosts (`ss --kill`).
  func resetConnections() async throws {
    guard kind == .namespaces else { throw LabError("loopback has no hosts to separate") }
    let (command, arguments) = command(
      on: .source, "ss", ["--kill", "--tcp", "dst", address(.destination)])
    try await Command.run(command, arguments)
  }
}
