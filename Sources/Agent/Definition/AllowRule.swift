/// Which peers may bring which VMs to this host: one `[[allow]]` of the configuration.
///
/// Without any rule every peer of the authority may bring any VM; with rules, only what one of them
/// says.
public struct AllowRule: Sendable, Equatable, Decodable {
  /// A name of the peer's certificate. `*` stands for any characters, `?` for one.
  public var peer: String
  /// Names of VMs, with the same wildcards.
  public var vms: [String]

  public init(peer: String, vms: [String]) { (self.peer, self.vms) = (peer, vms) }

  /// Why `vm` may not come from the peer with these names; nil when it may.
  static func refusal(_ rules: [AllowRule], vm: String, peerNames: [String]) -> Refusal? {
    let isAllowed =
      rules.isEmpty
      || rules.contains { rule in
        peerNames.contains { matches($0.lowercased(), rule.peer.lowercased()) }
          && rule.vms.contains { matches(vm, $0) }
      }
    guard !isAllowed else { return nil }
    let peer =
      peerNames.isEmpty ? "a peer without a certificate" : peerNames.joined(separator: ", ")
    return Refusal(
      .notAllowed, "the destination does not let \(peer) bring the VM \(vm)",
      remedy: "add an [[allow]] rule for this peer and VM to the destination's agent.toml")
  }

  /// Linear in time for every pattern: on a mismatch only the last `*` takes one more character.
  static func matches(_ text: String, _ pattern: String) -> Bool {
    let (text, pattern) = (Array(text.unicodeScalars), Array(pattern.unicodeScalars))
    var (at, index) = (0, 0)
    var star: (pattern: Int, text: Int)?
    while at < text.count {
      if index < pattern.count, pattern[index] == "*" {
        star = (index, at)
        index += 1
      } else if index < pattern.count, pattern[index] == "?" || pattern[index] == text[at] {
        (at, index) = (at + 1, index + 1)
      } else if let last = star {
        star = (last.pattern, last.text + 1)
        (at, index) = (last.text + 1, last.pattern + 1)
      } else {
        return false
      }
    }
    return pattern[index...].allSatisfy { $0 == "*" }
  }
}
