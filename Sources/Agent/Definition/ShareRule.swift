/// Guests that may use each other's kept memory: one `[[share]]` of the agent's configuration. By default none do.
///
///     [[share]]
///     group = "web"
///     vms = ["web-*"]
public struct ShareRule: Sendable, Equatable, Decodable {
  /// Two rules with one name are one group.
  public var group: String
  /// Names of VMs, with wildcards as in `AllowRule`.
  public var vms: [String]

  public init(group: String, vms: [String]) { (self.group, self.vms) = (group, vms) }

  /// Whether the two are in one group.
  static func areTogether(_ rules: [ShareRule], _ vm: String, _ other: String) -> Bool {
    !groups(rules, of: vm).isDisjoint(with: groups(rules, of: other))
  }

  private static func groups(_ rules: [ShareRule], of vm: String) -> Set<String> {
    Set(
      rules.filter { rule in rule.vms.contains { AllowRule.matches(vm, $0) } }.map(\.group))
  }
}
