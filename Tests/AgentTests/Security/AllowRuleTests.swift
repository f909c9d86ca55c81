import Base
import Foundation
import HostIO
import PKI
import Testing
import Wire

@testable import Agent

@Suite struct AllowRuleTests {
  @Test(arguments: [
    ("web-1", "web-*", true), ("web-1", "web-?", true), ("web-12", "web-?", false),
    ("web", "*", true), ("", "*", true), ("", "", true), ("a", "", false), ("abc", "a*c", true),
    ("abd", "a*c", false), ("aXbXc", "a*b*c", true), ("ü", "?", true),
    (String(repeating: "a", count: 3000), String(repeating: "a*", count: 50) + "b", false),
  ])
  func wildcards(text: String, pattern: String, doesMatch: Bool) {
    #expect(AllowRule.matches(text, pattern) == doesMatch)
  }

  @Test func rules() {
    let rules = [
      AllowRule(peer: "host-a", vms: ["web-*"]), AllowRule(peer: "*.lab", vms: ["test", "db"]),
    ]
    func isAllowed(_ vm: String, _ names: [String], _ rules: [AllowRule]) -> Bool {
      AllowRule.refusal(rules, vm: vm, peerNames: names) == nil
    }
    #expect(isAllowed("web-1", ["10.0.0.1", "HOST-A"], rules))
    #expect(!isAllowed("db", ["host-a"], rules))
    #expect(isAllowed("db", ["x.lab"], rules))
    #expect(!isAllowed("web-1", [], rules) && !isAllowed("web-1", ["host-b"], rules))
    #expect(isAllowed("any", [], []) && isAllowed("any", ["host-b"], []))
    let refusal = AllowRule.refusal(rules, vm: "db", peerNames: ["host-b"])
    #expect(refusal?.code == .notAllowed && refusal?.remedy.contains("[[allow]]") == true)
  }

  /// Over a real connection: what the certificate says is what the rule is about.
  @Test(.timeLimit(.minutes(2)), arguments: [true, false])
  func atPrepare(isAllowed: Bool) async throws {
    let hosts = try TestHosts()
    for host in ["host-a", "host-b"] { try hosts.add(host) }
    let target = try AgentUnderAttack { configuration in
      configuration.tls = hosts.configuration("host-b").tls
      configuration.allow = [AllowRule(peer: "host-a", vms: [isAllowed ? "nobo*" : "web-*"])]
    }
    let refusals = try await Blocking.run {
      try target.refusals(seed: 1, security: hosts.security("host-a"))
    }
    // Allowed, it is refused for another reason: nobody knows that VM.
    #expect((refusals.map(\.code) == [.notAllowed]) == !isAllowed, "\(refusals)")
    await target.stop()
  }
}

@Suite struct SecuritySettingsTests {
  private func parse(_ text: String) throws -> AgentConfiguration {
    try AgentConfiguration.parse(text, path: "agent.toml")
  }

  @Test func readsEveryKey() throws {
    let configuration = try parse(
      """
      [tls]
      directory = "/etc/pki"
      authority = "/a.pem"
      certificate = "/c.pem"
      key = "/k.pem"
      denyFile = "/denied"
      insecure = true
      insecureNetwork = true

      [[allow]]
      peer = "host-a"
      vms = ["web-*", "db"]
      """)
    #expect(configuration.tls.directory == "/etc/pki" && configuration.tls.denyFile == "/denied")
    #expect(configuration.tls.insecure && configuration.tls.insecureNetwork)
    #expect(configuration.allow == [AllowRule(peer: "host-a", vms: ["web-*", "db"])])
    let layout = try configuration.tls.layout()
    #expect(layout.authority == "/a.pem" && layout.server.key == "/k.pem")
    #expect(layout.client.certificate == "/c.pem")
  }

  @Test(arguments: [
    ("[tls]\ndirectory = \"pki\"", "tls.directory"), ("[tls]\nkey = \"/k\"", "belong together"),
    ("[tls]\ninsecureNetwork = true", "insecureNetwork"), ("[tls]\ninsecur = true", "insecur"),
    ("[[allow]]\npeer = \"a\"", "vms"),
  ])
  func mistakesAreNamed(text: String, word: String) {
    #expect { try parse(text) } throws: { "\($0)".contains(word) }
  }
}
