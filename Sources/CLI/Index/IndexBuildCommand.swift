import Agent
import ArgumentParser
import HostIO

struct IndexBuildCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "build", abstract: "Build or refresh the indexes of images (the default).",
    discussion: """
      Pages of a guest that are the same as blocks of its disk cross the network as references when both \
      hosts have an index of the image: run this on both. It computes the SHA-256 of every block of 4 KiB \
      that is neither in a hole nor zero. The images behind a qcow2 image are indexed, too, each for \
      itself. Compressed clusters are left out; encrypted images and those with external data are refused.

      A file that nobody wrote to since (its size, times and inode tell) is not read again; of any other \
      all blocks are, for the times say nothing about which of them changed. An index that no longer fits \
      its image costs bandwidth, never a wrong page. A build that is killed goes on where it was. \
      Images may be in use meanwhile. Run it as the agent's user, for whom alone indexes can be read.

      Exit status: 0 done; 1 an image can't be indexed, or with --verify differs from its index; 2 wrong usage.
      """)

  @Argument(help: ArgumentHelp("Raw images, block devices, qcow2 images.", valueName: "image"))
  var images: [String]
  @Option(help: "What the images are (default: raw; one that looks like qcow2 is then refused).")
  var format: ImageIndexing.Format?
  @Option(
    help: "Threads that read and compute, 1 to 64 (default: half of the processors, at most 8).")
  var threads: Int?
  @Flag(help: "Read the images again and compare them with their indexes; write nothing.")
  var verify = false
  @Flag(help: "Read everything again, whether or not it was read already.")
  var anew = false
  @OptionGroup var folder: IndexFolderOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard !images.isEmpty else { throw ValidationError("name at least one image") }
    if let threads, !(1...64).contains(threads) {
      throw ValidationError("--threads takes 1 to 64, not \(threads)")
    }
    guard !(verify && anew) else { throw ValidationError("--verify and --anew exclude each other") }
  }

  func run() async throws {
    var indexing = ImageIndexing(
      folder: try folder.folder(), format: format,
      threads: threads ?? min(max(CPUSet.processorCount / 2, 1), 8))
    (indexing.verifies, indexing.startsAnew) = (verify, anew)
    var isGood = true
    for image in images {
      do {
        for outcome in try await follow(indexing, image) {
          if verify, outcome.changedRegions != 0 { isGood = false }
          if output.json {
            try Output.json(outcome)
          } else {
            IndexText.lines(outcome).forEach(Output.line)
          }
        }
      } catch {
        Output.error("\(error)")
        isGood = false
      }
    }
    guard isGood else { throw Agent.ExitStatus.failed.exitCode }
  }

  private func follow(
    _ indexing: ImageIndexing, _ image: String
  ) async throws -> [ImageIndexing.Outcome] {
    let (line, isQuiet) = (Guarded(StatusLine()), output.json)
    defer { line.update { $0.clear() } }
    return try await WorkerThread.run("index") {
      try indexing.run(image) { progress in
        if !isQuiet { line.update { $0.show(IndexText.line(progress)) } }
      }
    }
  }
}
