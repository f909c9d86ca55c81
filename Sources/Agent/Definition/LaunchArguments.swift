import QMP

/// A QEMU command line being made fit for an incoming migration.
struct LaunchArguments: Equatable {
  private(set) var words: [String]

  init(_ words: [String]) { self.words = words }

  mutating func append(_ more: [String]) { words += more }

  /// A path inside an option: its commas are doubled.
  static func escape(_ path: String) -> String {
    path.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
  }

  func checkLimits() throws(LaunchRefusal) {
    guard words.count <= QEMULaunch.argumentCountMax,
      words.allSatisfy({ $0.utf8.count <= QEMULaunch.argumentLengthMax && !$0.utf8.contains(0) })
    else {
      throw LaunchRefusal(
        "the command line is too long, or an argument holds a NUL byte",
        remedy: "write a definition for this VM")
    }
  }

  /// Takes out what decides how QEMU starts; the agent says that itself.
  mutating func removeStartup() {
    filter { option, _ in
      switch option {
      case "S", "daemonize", "preconfig": .dropWord
      case "incoming", "pidfile", "loadvm": .dropWithValue
      default: .keep
      }
    }
  }

  /// Takes out monitors, which belong to the source's host.
  mutating func removeMonitors() {
    var chardevs: Set<String> = []
    filter { option, value in
      switch option {
      case "qmp", "qmp-pretty", "monitor", "D": return .dropWithValue
      case "mon":
        let fields = OptionFields(value ?? "", implied: "chardev")
        if let chardev = fields["chardev"] { chardevs.insert(chardev) }
        return .dropWithValue
      default: return .keep
      }
    }
    let rest = self
    filter { option, value in
      guard option == "chardev", let id = OptionFields(value ?? "", implied: "backend")["id"],
        chardevs.contains(id), !rest.isUsed(chardev: id)
      else { return .keep }
      return .dropWithValue
    }
  }

  /// Whether a device beside the monitors uses the character device (a multiplexed console).
  private func isUsed(chardev id: String) -> Bool {
    words.contains { word in
      word == "chardev:\(id)" || word.contains("chardev=\(id)") || word.contains("\"\(id)\"")
    }
  }

  /// Puts the source's machine type where the command line has an alias of it, or none.
  mutating func resolveMachine(to type: String) {
    let alias =
      type.hasPrefix("pc-i440fx-")
      ? "pc"
      : type.hasPrefix("pc-q35-") ? "q35" : type.hasPrefix("virt-") ? "virt" : nil
    for index in words.indices.dropLast() {
      guard ["machine", "M"].contains(QEMUCommandLine.option(words[index])) else { continue }
      let value = words[index + 1]
      let fields = OptionFields(value, implied: "type")
      guard let alias, let current = fields["type"] else { return }
      guard current == alias else { return }
      words[index + 1] = OptionFields.text(
        fields.fields.map { $0.key == "type" ? (key: "type", value: type) : $0 })
      return
    }
    if alias == "pc" { words += ["-machine", type] }
  }

  /// Gives the VM a name to be found by here.
  mutating func nameIfNameless(_ name: String) {
    guard QEMUCommandLine(arguments: words).name == nil else { return }
    words += ["-name", "guest=\(Self.escape(name))"]
  }

  private enum Choice { case keep, dropWord, dropWithValue }

  private mutating func filter(_ choose: (_ option: String?, _ value: String?) -> Choice) {
    var kept: [String] = []
    var index = 0
    while index < words.count {
      let value = index + 1 < words.count ? words[index + 1] : nil
      switch choose(QEMUCommandLine.option(words[index]), value) {
      case .keep: kept.append(words[index])
      case .dropWord: break
      case .dropWithValue: index += 1
      }
      index += 1
    }
    words = kept
  }

  mutating func rewritePaths(_ rules: [AgentConfiguration.PathRewrite]) {
    guard !rules.isEmpty else { return }
    words = words.indices.map { index in
      if isText(at: index) { return words[index] }
      return ArgumentPaths.rewrite(words[index]) { Self.rewritten($0, rules) }
    }
  }

  /// Where a path of the source's host leads here.
  static func rewritten(_ path: String, _ rules: [AgentConfiguration.PathRewrite]) -> String {
    guard let rule = rules.first(where: { PathRule.covers($0.from, path) }) else { return path }
    let bare = rule.from.hasSuffix("/") ? String(rule.from.dropLast()) : rule.from
    return rule.to + path.dropFirst(bare.count)
  }

  /// Whether QEMU is to use the file `path`, by that name.
  func names(_ path: String) -> Bool {
    words.indices.contains { !isText(at: $0) && ArgumentPaths.all(in: words[$0]).contains(path) }
  }

  /// What QEMU is to use, as far as it is named by absolute paths.
  var paths: [String] {
    words.indices.flatMap { isText(at: $0) ? [] : ArgumentPaths.all(in: words[$0]) }
  }

  /// Whether the word is for the guest or for people, so that its slashes mean nothing here.
  private func isText(at index: Int) -> Bool {
    guard index > 0, let option = QEMUCommandLine.option(words[index - 1]) else { return false }
    return ["append", "name", "uuid"].contains(option)
  }

  /// Refuses paths outside `rule`. `strict`, for a command line that a peer sent: also what runs
  /// programs, opens descriptors that do not exist here, or names files by relative paths.
  func checkPaths(_ rule: PathRule, strict: Bool) throws(LaunchRefusal) {
    for (index, word) in words.enumerated() {
      if isText(at: index) { continue }
      for path in ArgumentPaths.all(in: word) where !rule.allows(path) {
        throw LaunchRefusal(
          "the path \"\(path.prefix(300))\" in \"\(word.prefix(300))\" is not allowed at the "
            + "destination (a path counts after following its symbolic links, and may not hold \"..\")",
          remedy: "add its folder to allowedPaths in agent.toml there (now: "
            + (rule.allowed.isEmpty ? "none" : rule.allowed.joined(separator: ", ")) + ")")
      }
      if strict { try ForeignArguments.check(word, after: index > 0 ? words[index - 1] : nil) }
    }
  }
}

extension OptionFields {
  /// The text of the fields; the inverse of reading them.
  static func text(_ fields: [(key: String, value: String)]) -> String {
    fields.map { "\($0.key)=\(LaunchArguments.escape($0.value))" }.joined(separator: ",")
  }
}
