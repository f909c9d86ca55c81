import Agent
import ArgumentParser
import Base
import BlockStore

struct BlockPullCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pull",
    abstract:
      "Make a disk that godwit block serve serves what another NBD server has, while it is used.",
    discussion: """
      The image is a raw file or block device of the source's size, and empty (truncate -s SIZE). From the moment at \
      which the command is accepted the disk can be used: what isn't here yet is fetched when it is read, and everything \
      else meanwhile, where the guest reads first. Writes stay here. The source is an export: \
      nbd+unix:///NAME?socket=PATH, or nbds://HOST[:PORT]/NAME over TLS with the server's certificates (--dir of godwit \
      block serve), or nbd://HOST[:PORT]/NAME in plain. Nobody may write to it meanwhile: serve it with --read-only.

      Until everything is here the disk is in two places, and which block is where says a file beside the image \
      (IMAGE.godwit-pull): keep the three together. A server that is started with the image again goes on, and isn't \
      started without the source. While the source can't be reached, what is here is served, and reads of the rest wait up \
      to 30 seconds and fail then. godwit block pause and resume are for what is fetched without being asked for; cancel is refused \
      once something was written here. The command follows the pull; leaving it early doesn't end that. \
      Exit status: 0 everything is here; 1 stopped, godwit block status says why; 2 wrong usage; 3 refused; 4 cancelled.
      """)

  @Argument(help: "Name of the export.")
  var disk: String
  @Argument(help: ArgumentHelp("Where from.", valueName: "uri"))
  var source: String
  @Option(
    help: ArgumentHelp(
      "Cap on what is fetched without being asked for, as 1Gbit or 100MiB/s.", valueName: "rate"),
    transform: UnitArguments.rate)
  var bandwidth: ByteRate?
  @Flag(help: "The image may hold something already, which is lost.")
  var overwrite = false
  @Flag(help: "Allow plain TCP to other hosts: anybody on the way can read the disk.")
  var insecureNetwork = false
  @Flag(help: "Return once the pull is under way.")
  var detach = false
  @OptionGroup var server: BlockServerOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard NBDAddress(source) != nil else {
      throw ValidationError(
        "\(TerminalText.plain(source)) is no URI of an export: write "
          + "nbd+unix:///NAME?socket=PATH or nbds://HOST[:PORT]/NAME")
    }
  }

  func run() async throws {
    var request = BlockRequest(.pull, disk: disk)
    request.pull = BlockPullOrder(
      source: source, bytesPerSecond: bandwidth?.bytesPerSecond, overwrites: overwrite,
      allowsPlainNetwork: insecureNetwork)
    let begun = try await server.client.exchange(request).pulls ?? []
    if detach { return try BlockPullReport.show(begun, json: output.json) }
    let end = try await BlockPullReport.follow(disk, server.client, json: output.json)
    guard end != .done else { return }
    throw end.exitCode
  }
}

/// What is printed about pulls.
enum BlockPullReport {
  static func show(_ pulls: [DiskPullStatus], json: Bool) throws {
    for pull in pulls { if json { try Output.json(pull) } else { Output.line(line(pull)) } }
  }

  /// Follows a pull to its end, or to where it can't go on by itself.
  static func follow(_ disk: String, _ client: BlockClient, json: Bool) async throws -> ExitStatus {
    let ended = try await BlockFollow.follow(
      "pull", json: json,
      look: { try await client.exchange(BlockRequest(.status, disk: disk)).pulls?.first },
      line: line, end: end)
    try show([ended.status], json: json)
    return ended.exit
  }

  private static func end(_ pull: DiskPullStatus) -> ExitStatus? {
    switch pull.phase {
    case .done: .done
    case .cancelled: .cancelled
    case .paused: pull.problem == nil ? nil : .failed
    case .connecting, .pulling: nil
    }
  }

  static func line(_ pull: DiskPullStatus) -> String {
    var parts: [String] = []
    if !pull.phase.isOver {
      parts.append(
        "\(ByteCount(pull.missingBytes)) of \(ByteCount(pull.diskBytes)) to come")
      if let rate = pull.bytesPerSecond.flatMap({ ByteRate(bytesPerSecond: $0) }) {
        parts.append("\(rate)")
      }
      if let eta = pull.etaMs { parts.append("ETA \(Milliseconds.format(eta))") }
    } else {
      parts.append("\(ByteCount(pull.fetchedBytes)) fetched, \(ByteCount(pull.zeroBytes)) of zeros")
    }
    if let mean = pull.faultMeanUs, let longest = pull.faultMaxUs {
      parts.append("\(pull.faults) requests waited for \(mean) us (at most \(longest))")
    }
    if pull.failedFaults > 0 { parts.append("\(pull.failedFaults) of them in vain") }
    if let problem = pull.problem { parts.append(TerminalText.plain(problem)) }
    return "\(TerminalText.plain(pull.disk)) from \(TerminalText.plain(pull.source)): "
      + "\(pull.phase.rawValue); " + parts.joined(separator: ", ")
  }
}
