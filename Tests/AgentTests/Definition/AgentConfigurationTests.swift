import Foundation
import Testing

@testable import Agent

@Suite struct AgentConfigurationTests {
  private func parse(_ text: String) throws -> AgentConfiguration {
    try AgentConfiguration.parse(text, path: "agent.toml")
  }
  private func problem(_ text: String) -> String {
    do { _ = try parse(text) } catch { return "\(error)" }
    return ""
  }

  @Test func emptyMeansDefaults() throws {
    #expect(try parse("") == AgentConfiguration())
    #expect(AgentConfiguration().problem == nil)
    #expect(!AgentConfiguration().acceptSourceCommandLine)
  }

  @Test func readsEveryKey() throws {
    let configuration = try parse(
      """
      stateDirectory = "/s"
      runtimeDirectory = "/r"
      listen = "[::]:4750"
      allowedPrograms = ["/opt/qemu/bin/qemu-system-x86_64"]
      allowedPaths = ["/images", "/usr/share/"]
      acceptSourceCommandLine = true
      definitionsDirectory = "/d"
      laneCountMax = 8
      memoryLimit = "1GiB"
      startTimeout = "90s"

      [[pathRewrites]]
      from = "/old"
      to = "/new"
      """)
    #expect(configuration.stateDirectory == "/s" && configuration.runtimeDirectory == "/r")
    #expect(configuration.listen == "[::]:4750" && configuration.definitionsDirectory == "/d")
    #expect(configuration.allowedPrograms == ["/opt/qemu/bin/qemu-system-x86_64"])
    #expect(configuration.allowedPaths == ["/images", "/usr/share/"])
    #expect(configuration.acceptSourceCommandLine && configuration.laneCountMax == 8)
    #expect(configuration.memoryLimitBytes == 1 << 30 && configuration.startTimeoutMs == 90_000)
    #expect(configuration.pathRewrites == [.init(from: "/old", to: "/new")])
  }

  @Test func mistakesAreNamed() {
    #expect(problem("acceptSourceCommandline = true").contains("acceptSourceCommandline"))
    #expect(problem("laneCountMax = \"x\"").contains("laneCountMax"))
    #expect(problem("laneCountMax = 100").contains("1...64"))
    #expect(problem("memoryLimit = \"many\"").contains("256MiB"))
    #expect(problem("stateDirectory = \"relative\"").contains("stateDirectory"))
    #expect(problem("allowedPaths = [\"/a/../b\"]").contains("allowedPaths"))
    #expect(problem("= = =").contains("line 1"))
    #expect(problem("runtimeDirectory = \"/\(String(repeating: "x", count: 80))\"").contains("60"))
  }

  /// What is installed says what is so.
  @Test func theSampleHoldsTheDefaults() throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let text = try String(contentsOf: root.appending(path: "share/agent.toml"), encoding: .utf8)
    #expect(try parse(text) == AgentConfiguration())
    #expect(text.contains("pathRewrites"))
  }

  @Test func aFileThatWasNamedMustExist() {
    #expect(throws: ConfigurationError.self) {
      try AgentConfiguration.load(path: "/nonexistent/agent.toml")
    }
  }

  @Test func definitions() throws {
    let text = """
      program = "/usr/bin/qemu-system-x86_64"
      arguments = ["-m", "1G"]
      monitor = "/run/web1.qmp"
      """
    let definition = try VMDefinition.parse(text, name: "web1", path: "web1.toml")
    #expect(definition.name == "web1" && definition.arguments == ["-m", "1G"])
    #expect(throws: ConfigurationError.self) {
      try VMDefinition.parse(text + "\nname = \"other\"", name: "web1", path: "web1.toml")
    }
    #expect(throws: ConfigurationError.self) {
      try VMDefinition.parse("arguments = []", name: "web1", path: "web1.toml")
    }
    #expect(throws: ConfigurationError.self) {
      try VMDefinition.parse(text + "\nprogramm = \"x\"", name: "web1", path: "web1.toml")
    }
  }

  @Test(arguments: [
    "../agent", "a/b", "", ".hidden", "a\0b", "ü", String(repeating: "x", count: 200),
  ])
  func namesThatLeadElsewhereAreRefused(name: String) {
    #expect(throws: ConfigurationError.self) {
      try VMDefinition.load(name: name, configuration: AgentConfiguration())
    }
  }
}
