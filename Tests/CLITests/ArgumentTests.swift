import Agent
import ArgumentParser
import Testing

@testable import CLI

@Suite struct ArgumentTests {
  private func migrate(_ arguments: String...) throws -> MigrationRequest {
    let command = try GodwitCommand.parseAsRoot(["migrate"] + arguments)
    return try #require(command as? MigrateCommand).request
  }

  @Test func defaults() throws {
    #expect(try migrate("web-1", "host-b") == MigrationRequest(vm: "web-1", destination: "host-b"))
  }

  @Test func everyOption() throws {
    let request = try migrate(
      "qmp:/run/web.sock", "host-b:4750", "--bandwidth", "1Gbit", "--downtime", "1.5s",
      "--page-source", "inline", "--lanes", "8", "--audit", "--keep-source", "--strategy", "precopy"
    )
    var expected = MigrationRequest(vm: "qmp:/run/web.sock", destination: "host-b:4750")
    expected.bandwidthBytesPerSecond = 125_000_000
    expected.downtimeLimitMs = 1500
    expected.pageSource = .inline
    expected.laneCount = 8
    (expected.audit, expected.keepSource) = (true, true)
    #expect(request == expected)
  }

  @Test(arguments: [
    ["--lanes", "0"], ["--lanes", "65"], ["--downtime", "300"], ["--downtime", "0ms"],
    ["--downtime", "3h"], ["--bandwidth", "fast"], ["--bandwidth", "0Mbit"],
    ["--page-source", "magic"], ["--nonsense"],
  ])
  func nonsenseIsAUsageError(_ options: [String]) {
    let error = #expect(throws: (any Error).self) {
      try GodwitCommand.parseAsRoot(["migrate", "vm", "host"] + options)
    }
    if let error { #expect(GodwitCommand.exitCode(for: error) == .validationFailure) }
  }

  @Test func historyLimitIsChecked() {
    for limit in ["0", "1001", "-1"] {
      #expect(throws: (any Error).self) {
        try GodwitCommand.parseAsRoot(["history", "--limit=\(limit)"])
      }
    }
  }

  /// A method without a model is refused by name, also between others.
  @Test func onlyModelledDiskMethodsAreSimulated() throws {
    let simulate = ["simulate", "disk", "--method"]
    #expect(throws: Never.self) {
      try GodwitCommand.parseAsRoot(simulate + ["precopy", "mirror", "iofollow"])
    }
    for name in ["waio", "snapmig", "incremental"] {
      for others in [[], ["mirror"]] {
        let error = #expect(throws: (any Error).self) {
          try GodwitCommand.parseAsRoot(simulate + others + [name])
        }
        guard let error else { continue }
        #expect(GodwitCommand.exitCode(for: error) == .validationFailure)
        let message = GodwitCommand.message(for: error)
        for text in [name, "precopy", "mirror", "iofollow"] {
          #expect(message.contains(text), "\(message)")
        }
      }
    }
  }
}
