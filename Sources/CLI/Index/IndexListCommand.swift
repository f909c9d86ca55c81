import Agent
import ArgumentParser
import Base
import HostIO

struct IndexListCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the indexes of this host.",
    discussion: """
      CHANGED says whether the image's file was written to since; the next build reads it again. Exit \
      status 1: an index is damaged, and the next build of its image replaces it.
      """)

  @OptionGroup var folder: IndexFolderOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let indexing = ImageIndexing(folder: try folder.folder(), threads: 1)
    let found = try await WorkerThread.run("index") { indexing.list() }
    var table = Table(["IMAGE", "FORMAT", "SIZE", "HELD", "INDEX", "CHANGED"])
    var isGood = true
    for result in found {
      do {
        let listed = try result.get()
        if output.json { try Output.json(listed) }
        table.add([
          listed.image, listed.format, ByteCount(listed.imageBytes).description,
          ByteCount(listed.heldBytes).description, ByteCount(listed.indexBytes).description,
          listed.isChanged.map { $0 ? "yes" : "no" } ?? "?",
        ])
      } catch {
        Output.error("\(error)")
        isGood = false
      }
    }
    if !output.json {
      if found.isEmpty {
        Output.line("no indexes in \(TerminalText.plain(indexing.folder.path))")
      } else {
        table.lines(fitting: nil).forEach(Output.line)
      }
    }
    guard isGood else { throw Agent.ExitStatus.failed.exitCode }
  }
}
