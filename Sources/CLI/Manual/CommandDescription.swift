/// The command line as `--experimental-dump-help` describes it; only what manual pages need.
struct CommandDescription: Decodable {
  struct Tool: Decodable { let command: CommandDescription }

  struct Name: Decodable {
    let kind: String
    let name: String
    var text: String { (kind == "long" ? "--" : "-") + name }
  }

  struct Argument: Decodable {
    /// `positional`, `option` or `flag`.
    let kind: String
    let isOptional: Bool
    let isRepeating: Bool
    let shouldDisplay: Bool
    let valueName: String?
    let names: [Name]?
    let abstract: String?
    let discussion: String?
    let defaultValue: String?
    let allValues: [String]?

    /// As in a synopsis: `<vm>`, `--lanes <number>`.
    var spelling: String {
      let value = "<\(valueName ?? "value")>"
      switch kind {
      case "positional": return value
      case "option": return "\(names?.last?.text ?? "") \(value)"
      default: return names?.last?.text ?? ""
      }
    }
  }

  let commandName: String
  let superCommands: [String]?
  let abstract: String?
  let discussion: String?
  let shouldDisplay: Bool
  let subcommands: [CommandDescription]?
  let arguments: [Argument]?

  /// `godwit lab run`
  var path: [String] { (superCommands ?? []) + [commandName] }
  var children: [CommandDescription] {
    (subcommands ?? []).filter { $0.shouldDisplay && $0.commandName != "help" }
  }
  /// This command and all below it that are shown.
  var all: [CommandDescription] { [self] + children.flatMap(\.all) }
}
