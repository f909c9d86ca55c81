import Agent
import ArgumentParser
import Base
import BlockStore
import DiskStrategy
import HostIO

struct BlockManifestCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "manifest",
    abstract:
      "Write down what a copy of a disk holds, so that a move there sends only what it hasn't.",
    discussion: """
      The copy is a raw file, a block device, or an export (nbd+unix:///NAME?socket=PATH, nbds://HOST[:PORT]/NAME). It \
      is read once, and a SHA-256 for each 64 KiB goes to the manifest, which godwit block move --method incremental \
      takes. Nobody may write to the copy from now on until it is moved to: the manifest says what it held. Run this \
      where the copy is, and take the manifest to the disk's host. A served disk's own manifest is godwit block \
      snapshot's. Exit status: 0 done; 1 failed; 2 wrong usage; 3 refused.
      """)

  @Argument(help: ArgumentHelp("The copy.", valueName: "image"))
  var image: String
  @Option(help: ArgumentHelp("Path for the manifest.", valueName: "path"))
  var output: String
  @OptionGroup var folder: PKIFolderOptions
  @Flag(help: "Allow plain TCP to other hosts: anybody on the way can read the disk.")
  var insecureNetwork = false
  @OptionGroup var format: OutputOptions

  func run() async throws {
    let (image, folder, allowsPlain) = (image, folder.path, insecureNetwork)
    let manifest = try await WorkerThread.run("block-manifest") {
      let store = try Self.open(image, folder, allowsPlain)
      defer { (store as? RemoteStore)?.close() }
      return try DiskManifest.reading(store)
    }
    try BlockManifest.write(manifest, to: output)
    let report = BlockManifestReport(
      image: image, manifest: output, diskBytes: manifest.byteCount,
      parts: UInt64(manifest.partCount))
    if format.json { return try Output.json(report) }
    Output.line(
      "\(TerminalText.plain(image)): \(ByteCount(report.diskBytes)) in \(report.parts) parts")
  }

  /// - Parameter folder: of certificates.
  private static func open(
    _ image: String, _ folder: String, _ allowsPlain: Bool
  ) throws -> any DiskStore {
    guard let address = NBDAddress(image) else {
      var options = FileStore.Options()
      options.isReadOnly = true
      return try FileStore(path: image, options)
    }
    guard allowsPlain || !address.isExposed else {
      throw ControlError(
        .refused, "the copy would cross the network in plain: write nbds:, or --insecure-network")
    }
    return try address.destination(folder).connect(silence: Self.silence)
  }

  private static let silence = SilenceLimit(
    server: "the copy's server", answerMs: 30_000, flushMs: 30_000)
}

/// A manifest that was made.
struct BlockManifestReport: Codable, Sendable {
  let image, manifest: String
  let diskBytes, parts: UInt64
}
