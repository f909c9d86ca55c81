import Agent
import ArgumentParser
import FoundationEssentials

/// Hidden: writes the manual pages; `make man` and `make install` call it.
struct ManualCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "manual", abstract: "Write the manual pages to a folder.", shouldDisplay: false)

  @Argument(help: "Folder for the pages.")
  var folder: String

  func run() throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for page in try Self.pages() {
      try Data(page.text.utf8).write(to: URL(filePath: folder).appending(path: page.fileName))
    }
  }

  static func pages() throws -> [ManualPage] {
    let dump = GodwitCommand._dumpHelp()
    let tool = try JSONLine.decode(CommandDescription.Tool.self, from: dump.utf8)
    return ManualPage.all(tool.command)
  }
}
