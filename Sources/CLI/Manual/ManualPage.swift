import Agent
import ArgumentParser

/// Writes manual pages, man(7), from the definition of the command line. Pure.
struct ManualPage {
  /// `godwit-lab-run.1`
  let fileName: String
  let text: String

  /// A page for every command that help shows.
  static func all(_ root: CommandDescription) -> [ManualPage] {
    root.all.map { ManualPage($0, root: root) }
  }

  private init(_ command: CommandDescription, root: CommandDescription) {
    let name = command.path.joined(separator: "-")
    fileName = name + ".1"
    let version = GodwitVersion.current.godwit
    var page = [
      ".\\\" Generated from the command line's definition by `make man`; not edited by hand.",
      ".TH \"\(name.uppercased())\" 1 \"\" \"Godwit \(version)\" \"Godwit manual\"",
      ".SH NAME", Self.escaped(name) + " \\- " + Self.escaped(Self.sentence(command.abstract)),
    ]
    page += Self.synopsis(command)
    if let discussion = command.discussion, !discussion.isEmpty {
      page.append(".SH DESCRIPTION")
      page += Self.paragraphs(discussion)
    }
    if !command.children.isEmpty {
      page.append(".SH COMMANDS")
      for child in command.children {
        let childName = child.path.joined(separator: "-")
        page += [
          ".TP", ".BR \(Self.escaped(childName)) (1)", Self.escaped(child.abstract ?? ""),
        ]
      }
    }
    page += Self.options(command)
    page += Self.closing(command, root: root)
    text = page.joined(separator: "\n") + "\n"
  }

  private static func synopsis(_ command: CommandDescription) -> [String] {
    var rows = [".SH SYNOPSIS", ".B \(escaped(command.path.joined(separator: " ")))"]
    if !command.children.isEmpty {
      // One that does something by itself as well takes a command or not.
      let isRunnable = shown(command).contains { !isHelp($0) }
      rows.append(isRunnable ? "[\\fIcommand\\fR]" : ".I command\n[options]")
    }
    for argument in shown(command) where !isHelp(argument) {
      let text = escaped(argument.spelling) + (argument.isRepeating ? " ..." : "")
      rows.append(argument.isOptional ? "[\(text)]" : text)
    }
    return rows
  }

  private static func options(_ command: CommandDescription) -> [String] {
    var rows: [String] = []
    let arguments = shown(command).filter { $0.kind == "positional" }
    let options = shown(command).filter { $0.kind != "positional" }
    for (title, list) in [("ARGUMENTS", arguments), ("OPTIONS", options)] where !list.isEmpty {
      rows.append(".SH \(title)")
      for argument in list {
        rows += [".TP", ".B " + escaped(allSpellings(argument)), escaped(argument.abstract ?? "")]
        rows += paragraphs(argument.discussion ?? "")
        if let values = argument.allValues, !values.isEmpty, argument.kind != "flag" {
          rows.append(escaped("One of: \(values.joined(separator: ", "))."))
        }
        if let value = argument.defaultValue, argument.kind == "option" {
          rows.append(escaped("Default: \(value)."))
        }
      }
    }
    return rows
  }

  private static func closing(_ command: CommandDescription, root: CommandDescription) -> [String] {
    var rows = [".SH EXIT STATUS"]
    for (status, meaning) in exitStatuses(of: command) {
      rows += [".TP", ".B \(status)", escaped(meaning)]
    }
    var others = root.all.map { $0.path.joined(separator: "-") }
    others.removeAll { $0 == command.path.joined(separator: "-") }
    if command.path.count > 1 {
      others = others.filter { $0 == root.commandName || $0.isSibling(of: command) }
    }
    rows.append(".SH SEE ALSO")
    for (index, other) in others.enumerated() {
      rows.append(".BR \(escaped(other)) (1)" + (index + 1 < others.count ? "," : ""))
    }
    return rows
  }

  /// What they mean depends on whether a guest is at stake.
  private static func exitStatuses(of command: CommandDescription) -> [(Int32, String)] {
    let name = command.path.dropFirst().joined(separator: " ")
    let follows = name == "migrate" || name == "watch"
    var statuses: [(ExitStatus, String)] = [(.done, "Done."), (.usage, "Wrong usage.")]
    statuses.append((.defect, "A defect of Godwit's."))
    if follows {
      statuses += [
        (.failed, "Failed; the guest is safe at the source."),
        (.refused, "Refused before anything moved; the message names cause and remedy."),
        (.cancelled, "Cancelled; the guest goes on at the source."),
      ]
    } else {
      statuses += [
        (.failed, "Failed, or what was looked at is not in order; the message says what."),
        (.refused, "Refused, and nothing was done; the message names cause and remedy."),
        (.cancelled, "Cancelled."),
      ]
    }
    if follows || name == "recover" {
      statuses.append(
        (.needsHuman, "A person must look: the guest's QEMU is gone, or the commit is in doubt."))
    }
    let detached: [(Int32, String)] =
      follows
      ? [(MigrationFollower.detached.rawValue, "Left with Ctrl-C while the agent goes on.")] : []
    return statuses.map { ($0.0.rawValue, $0.1) }.sorted { $0.0 < $1.0 } + detached
  }

  private static func shown(_ command: CommandDescription) -> [CommandDescription.Argument] {
    (command.arguments ?? []).filter(\.shouldDisplay)
  }

  private static func isHelp(_ argument: CommandDescription.Argument) -> Bool {
    ["help", "version"].contains(argument.valueName) && argument.kind == "flag"
  }

  private static func allSpellings(_ argument: CommandDescription.Argument) -> String {
    guard let names = argument.names, names.count > 1 else { return argument.spelling }
    let value = argument.kind == "option" ? " <\(argument.valueName ?? "value")>" : ""
    return names.map(\.text).joined(separator: ", ") + value
  }

  /// `Move a guest.` as `move a guest`, the form that NAME sections have.
  private static func sentence(_ text: String?) -> String {
    guard var text, let first = text.first else { return "" }
    if text.hasSuffix(".") { text.removeLast() }
    return first.lowercased() + text.dropFirst()
  }

  private static func paragraphs(_ text: String) -> [String] {
    guard !text.isEmpty else { return [] }
    var rows: [String] = []
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      rows.append(line.isEmpty ? ".PP" : escaped(String(line)))
    }
    return rows
  }

  /// Text that troff prints as it is.
  static func escaped(_ text: String) -> String {
    var result = ""
    for character in text {
      switch character {
      case "\\": result += "\\e"
      case "-": result += "\\-"
      case "`": result += "\\(ga"
      case "'": result += "\\(aq"
      case "\"": result += "\\(dq"
      default: result.append(character)
      }
    }
    return result.hasPrefix(".") ? "\\&" + result : result
  }
}

extension String {
  /// The page names a command with the same parent, a child or the parent itself.
  fileprivate func isSibling(of command: CommandDescription) -> Bool {
    let parent = command.path.dropLast().joined(separator: "-")
    let own = command.path.joined(separator: "-")
    return self == parent || hasPrefix(own + "-")
      || (command.path.count > 2 && hasPrefix(parent + "-"))
  }
}
