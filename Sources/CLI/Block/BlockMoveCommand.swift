import Agent
public import ArgumentParser
import Base
public import BlockStore
public import DiskStrategy

/// Which server of disks is meant.
struct BlockServerOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Unix socket that the server has for its clients.", valueName: "path"))
  var socket: String?
  @Option(
    help: ArgumentHelp(
      "Control socket of the server (default: that path with .control behind it).",
      valueName: "path"))
  var control: String?

  func validate() throws {
    guard socket != nil || control != nil else {
      throw ValidationError("name the server: --socket PATH, or --control PATH")
    }
  }

  var client: BlockClient {
    BlockClient(path: control ?? (socket ?? "") + BlockClient.suffix)
  }
}

struct BlockMoveCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "move",
    abstract: "Move a disk that godwit block serve serves to another NBD server, while it is used.",
    discussion: """
      The destination is an export of at least the disk's size: nbd+unix:///NAME?socket=PATH, or \
      nbds://HOST[:PORT]/NAME over TLS with the server's certificates (--dir of godwit block serve), or \
      nbd://HOST[:PORT]/NAME in plain. Methods: precopy copies in rounds, and lets the guest's writes wait for the \
      last of it; mirror carries the guest's writes out at both sides; iofollow sends what the guest reads \
      or writes from memory and copies where the guest is; waio lets what the guest writes and reads often go to \
      a surrogate meanwhile, and copies no faster than the guest likes; snapmig takes what hasn't changed since \
      godwit block snapshot from backups, and compares it with the manifest; incremental sends only what an older copy \
      at the destination hasn't, by the copy's manifest (godwit block manifest) or the image's dirty bitmap. All end with both sides the same; --then says \
      what follows: the guest's requests go to the destination (switch), or it keeps a copy (copy), or \
      both sides are kept the same until godwit block finish (wait).

      Until the switch the image has every write, whatever becomes of the destination, the network or \
      the server. What is needed yet is kept in a file beside the image: the same command goes on where a \
      server that died had come to. After the switch the image is out of date; a server that is started \
      with it again serves the destination. With waio image and surrogate together have every write: keep both \
      until godwit block status shows no surrogate. The command follows the move; leaving it early doesn't end \
      that. Exit status: 0 done, or kept the same from now on (wait); 1 stopped, godwit block status says \
      why; 2 wrong usage; 3 refused; 4 cancelled.
      """, aliases: ["migrate"])

  @Argument(help: "Name of the export.")
  var disk: String
  @Argument(help: ArgumentHelp("Where to.", valueName: "uri"))
  var destination: String
  @Option(help: "How (default: mirror).")
  var method = MoveMethod.mirror
  @Option(help: "What follows when both sides are the same (default: switch).")
  var then = MoveEnding.switching
  @Option(
    help: ArgumentHelp("Cap on what the copier sends, as 1Gbit or 100MiB/s.", valueName: "rate"),
    transform: UnitArguments.rate)
  var bandwidth: ByteRate?
  @Option(
    help: ArgumentHelp(
      "Longest wait of the guest's writes at the end to aim for, up to 10s (default: 300ms).",
      valueName: "duration"), transform: UnitArguments.milliseconds)
  var pause: UInt64?
  @OptionGroup var surrogate: BlockSurrogateOptions
  @Option(
    help: ArgumentHelp(
      "For snapmig, and for incremental if there is one: absolute path of the last snapshot's manifest, on the server's host.",
      valueName: "path"))
  var manifest: String?
  @Option(
    help: ArgumentHelp(
      "For snapmig: URI of an export that has the disk as it was; once for each backup, 16 at most.",
      valueName: "uri"))
  var backup: [String] = []
  @OptionGroup var base: BlockBaseOptions
  @Flag(help: "Allow plain TCP to other hosts: anybody on the way can read the disk.")
  var insecureNetwork = false
  @Flag(help: "Return once the move is under way.")
  var detach = false
  @OptionGroup var server: BlockServerOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard NBDAddress(destination) != nil else {
      throw ValidationError(
        "\(TerminalText.plain(destination)) is no URI of an export: write "
          + "nbd+unix:///NAME?socket=PATH or nbds://HOST[:PORT]/NAME")
    }
    guard pause.map({ (1...10_000).contains($0) }) ?? true else {
      throw ValidationError("--pause takes 1ms to 10s")
    }
    guard (method == .waio) == (surrogate.surrogate != nil) else {
      throw ValidationError("--method waio and --surrogate go together")
    }
    guard (method == .incremental) == base.isGiven else {
      throw ValidationError("--method incremental and --base-manifest or --base-bitmap go together")
    }
    guard base.baseBitmap == nil || manifest == nil else {
      throw ValidationError("--manifest is of no use beside --base-bitmap")
    }
    guard method != .snapmig || manifest != nil, (method == .snapmig) == !backup.isEmpty,
      manifest == nil || method == .snapmig || method == .incremental
    else { throw ValidationError("--method snapmig, --manifest and --backup go together") }
    guard manifest.map({ $0.hasPrefix("/") }) ?? true else {
      throw ValidationError("--manifest takes an absolute path")
    }
    guard backup.count <= 16, backup.allSatisfy({ NBDAddress($0) != nil }) else {
      throw ValidationError("--backup takes the URI of an export, 16 times at most")
    }
  }

  func run() async throws {
    var request = BlockRequest(.move, disk: disk)
    var order = BlockMoveOrder(
      destination: destination, method: method, ending: then,
      pauseLimitMs: pause ?? MoveWish().pauseLimitMs)
    (order.bytesPerSecond, order.allowsPlainNetwork) = (bandwidth?.bytesPerSecond, insecureNetwork)
    (order.surrogate, order.base) = (surrogate.order, base.order)
    (order.manifest, order.backups) = (manifest, backup.isEmpty ? nil : backup)
    request.move = order
    let begun = try await server.client.ask(request)
    if detach { return try BlockMoveReport.show(begun, json: output.json) }
    let end = try await BlockMoveReport.follow(disk, server.client, json: output.json)
    guard end != .done else { return }
    throw end.exitCode
  }
}

/// What is printed about moves.
enum BlockMoveReport {
  static func show(_ moves: [MoveStatus], json: Bool) throws {
    for move in moves {
      if json { try Output.json(move) } else { Output.line(line(move)) }
    }
    if moves.isEmpty, !json { Output.line("no disk moves") }
  }

  /// Follows a move to its end, or to where it can't go on by itself.
  static func follow(_ disk: String, _ client: BlockClient, json: Bool) async throws -> ExitStatus {
    let ended = try await BlockFollow.follow(
      "move", json: json, look: { try await client.ask(BlockRequest(.status, disk: disk)).first },
      line: line, end: end)
    try show([ended.status], json: json)
    return ended.exit
  }

  private static func end(_ move: MoveStatus) -> ExitStatus? {
    switch move.phase {
    case .copied, .switched: .done
    case .cancelled: .cancelled
    case .interrupted: .failed
    case .paused: move.problem == nil ? nil : .failed
    case .mirroring: move.ending == .wait && move.neededBytes == 0 ? .done : nil
    case .connecting, .copying, .finishing: nil
    }
  }

  static func line(_ move: MoveStatus) -> String {
    let name = TerminalText.plain(move.disk)
    let place = TerminalText.plain(move.destination)
    var parts: [String] = []
    if !move.phase.isOver {
      parts.append("\(ByteCount(move.neededBytes)) of \(ByteCount(move.diskBytes)) to go")
      if let rate = move.bytesPerSecond.flatMap({ ByteRate(bytesPerSecond: $0) }) {
        parts.append("\(rate)")
      }
      if let eta = move.etaMs { parts.append("ETA \(Milliseconds.format(eta))") }
    } else {
      parts.append("\(ByteCount(move.wireBytes)) sent, \(ByteCount(move.readBytes)) read for it")
      if let pause = move.pauseUs { parts.append("writes waited \(pause / 1000) ms") }
    }
    if let bytes = move.backupBytes { parts.append("\(ByteCount(bytes)) from backups") }
    if let bytes = move.skippedBytes { parts.append("\(ByteCount(bytes)) there already") }
    if let surrogate = move.surrogate { parts.append(BlockSurrogate.line(surrogate)) }
    if let problem = move.problem { parts.append(TerminalText.plain(problem)) }
    return "\(name) to \(place): \(move.phase.rawValue); " + parts.joined(separator: ", ")
  }
}

extension MoveMethod: ExpressibleByArgument {}
extension MoveEnding: ExpressibleByArgument {}
