import Agent
import ArgumentParser
import Base

struct BlockSnapshotCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "snapshot",
    abstract: "Write down what a served disk holds, so that backups of it can be used to move it.",
    discussion: """
      The server reads the disk once, writes a SHA-256 for each 64 KiB to the manifest, and notes from then on which \
      blocks are written, until the next snapshot, also over restarts; godwit block attach and detach end that, for \
      QEMU writes past the server before and after. godwit block move --method snapmig then \
      reads from the disk only what has changed since, and the rest from backups that were made before or after. \
      Nothing is copied here. Exit status: 0 done; 1 failed; 2 wrong usage; 3 refused.
      """)

  @Argument(help: "Name of the export.")
  var disk: String
  @Option(
    help: ArgumentHelp("Absolute path for the manifest, on the server's host.", valueName: "path"))
  var manifest: String
  @OptionGroup var server: BlockServerOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard manifest.hasPrefix("/") else {
      throw ValidationError("--manifest takes an absolute path")
    }
  }

  func run() async throws {
    var request = BlockRequest(.snapshot, disk: disk)
    request.manifest = manifest
    guard let report = try await server.client.exchange(request).snapshot else {
      throw ControlError(.protocolMismatch, "the server took no snapshot")
    }
    if output.json { return try Output.json(report) }
    Output.line(
      "\(TerminalText.plain(report.disk)): \(ByteCount(report.diskBytes)) in \(report.parts) parts, "
        + "generation \(report.generation)")
  }
}
