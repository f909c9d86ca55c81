import Base
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
      outgoingMax = 3
      incomingMax = 4
      bandwidth = "1Gbit"
      metrics = "127.0.0.1:1"
      drainTimeout = "2m"
      logLevel = "debug"

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
    #expect(configuration.outgoingMax == 3 && configuration.incomingMax == 4)
    #expect(configuration.bandwidth?.bytesPerSecond == 125_000_000)
    #expect(configuration.metrics == "127.0.0.1:1" && configuration.drainTimeoutMs == 120_000)
    #expect(configuration.logLevel == "debug")
    #expect(configuration.pathRewrites == [.init(from: "/old", to: "/new")])
  }

  @Test func mistakesAreNamed() {
    #expect(problem("acceptSourceCommandline = true").contains("acceptSourceCommandline"))
    #expect(problem("memorylimit = \"1GiB\"").contains("did you mean memoryLimit?"))
    #expect(problem("colour = 1").hasSuffix("unknown key \"colour\""))
    #expect(problem("outgoingMax = 0").contains("1...256"))
    #expect(problem("logLevel = \"loud\"").contains("trace, debug"))
    #expect(problem("bandwidth = \"fast\"").contains("1Gbit"))
    #expect(problem("bandwidth = \"1kbit\"").contains("bandwidth"))
    #expect(problem("metrics = \"host:port\"").isEmpty == false)
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
    for key in AgentConfiguration.keyNames {
      #expect(text.split(separator: "\n").contains { $0.contains(key) }, "\(key) is not explained")
    }
  }

  @Test func aReloadKeepsWhatIsInUse() throws {
    var new = AgentConfiguration()
    (new.listen, new.memoryLimitBytes, new.outgoingMax) = ("[::]:1", 1 << 30, 2)
    let (taken, restart) = AgentConfiguration().reloaded(new)
    #expect(restart == ["listen"])
    #expect(taken.listen == AgentConfiguration().listen)
    #expect(taken.memoryLimitBytes == 1 << 30 && taken.outgoingMax == 2)
  }

  @Test func theCheckNamesWhatIsNotThere() throws {
    var configuration = AgentConfiguration()
    configuration.allowedPrograms = ["/nonexistent/qemu", "/bin/sh"]
    configuration.stateDirectory = "/proc/godwit/state"
    configuration.runtimeDirectory = "/tmp/godwit-check/run"
    let check = ConfigurationCheck(configuration)
    #expect(!check.isUsable)
    let errors = check.findings.filter { $0.weight == .error }.map(\.text)
    #expect(errors.contains { $0.contains("/nonexistent/qemu") })
    #expect(!errors.contains { $0.contains("/bin/sh") || $0.contains("/tmp") })
  }

  @Test func aFileThatWasNamedMustExist() {
    #expect(throws: ConfigurationError.self) {
      try AgentConfiguration.load(path: "/nonexistent/agent.toml")
    }
  }

  @Test func imagesAreSharedWithThoseNamed() throws {
    let configuration = try AgentConfiguration.parse(
      """
      [[sharedImages]]
      vms = ["web-*", "db"]
      images = ["/srv/a.raw", "/srv/b.qcow2"]
      [[sharedImages]]
      vms = ["web-1"]
      images = ["/srv/c.raw"]
      """, path: "agent.toml")
    func images(_ vm: String) -> [String] {
      SharedImages.images(configuration.sharedImages, for: vm)
    }
    #expect(images("web-1") == ["/srv/a.raw", "/srv/b.qcow2", "/srv/c.raw"])
    #expect(images("db").count == 2 && images("mail").isEmpty)
    #expect(throws: ConfigurationError.self) {
      try AgentConfiguration.parse(
        "[[sharedImages]]\nvms = [\"a\"]\nimages = [\"../x\"]", path: "agent.toml")
    }
  }

  @Test func guestsShareWithThoseOfTheirGroups() throws {
    let configuration = try AgentConfiguration.parse(
      """
      [[share]]
      group = "web"
      vms = ["web-*", "proxy"]
      [[share]]
      group = "db"
      vms = ["db-?"]
      [[share]]
      group = "web"
      vms = ["cache"]
      """, path: "agent.toml")
    func together(_ a: String, _ b: String) -> Bool {
      ShareRule.areTogether(configuration.share, a, b)
    }
    #expect(together("web-1", "web-2") && together("proxy", "web-9") && together("cache", "web-1"))
    #expect(together("db-1", "db-2") && !together("db-1", "web-1") && !together("db-1", "db-12"))
    #expect(!together("mail", "mail") && !together("mail", "web-1"))
    #expect(!ShareRule.areTogether([], "web-1", "web-1"))
    for bad in ["group = \"\"\nvms = [\"a\"]", "group = \"a\"\nvms = []", "vms = [\"a\"]"] {
      #expect(throws: ConfigurationError.self) {
        try AgentConfiguration.parse("[[share]]\n" + bad, path: "agent.toml")
      }
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
