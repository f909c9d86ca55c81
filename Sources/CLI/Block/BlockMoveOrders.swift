import Agent
import ArgumentParser
import BlockStore

struct BlockStatusCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Show the moves and pulls of a server's disks.",
    discussion: """
      Those that are under way, that an earlier server began, and the last one that is over. Of a pull it shows what is \
      missing, how many requests had to wait for the source, and how long (faults, in microseconds). Exit \
      status: 0 shown; 1 no server answers; 2 wrong usage; 3 there is no such disk.
      """)

  @Argument(help: "Name of the export (default: all).")
  var disk: String?
  @OptionGroup var server: BlockServerOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    try BlockOrder.show(
      await server.client.exchange(BlockRequest(.status, disk: disk)), json: output.json)
  }
}

struct BlockPauseCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pause", abstract: "Let a disk's move rest; what the guest writes is remembered.",
    discussion: "A disk that is pulled fetches only what is asked for. " + BlockOrder.discussion)

  @OptionGroup var order: BlockOrder

  func run() async throws { try await order.give(.pause) }
}

struct BlockResumeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resume",
    abstract: "Go on with a disk's move or pull that was paused, or stopped on a problem.",
    discussion: BlockOrder.discussion)

  @OptionGroup var order: BlockOrder

  func run() async throws { try await order.give(.resume) }
}

struct BlockCancelCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cancel", abstract: "End a disk's move; the image stays the disk.",
    discussion:
      "A disk that is pulled can be used only when it is pulled again; refused once somebody has written there. "
      + BlockOrder.discussion)

  @OptionGroup var order: BlockOrder

  func run() async throws { try await order.give(.cancel) }
}

struct BlockFinishCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "finish", abstract: "End a disk's move that keeps both sides the same.",
    discussion: BlockOrder.discussion)

  @Option(help: "What follows (default: switch).")
  var then = MoveEnding.switching
  @OptionGroup var order: BlockOrder

  func run() async throws { try await order.give(.finish, then) }
}

/// What the orders have in common.
struct BlockOrder: ParsableArguments {
  static let discussion =
    "Exit status: 0 done; 1 no server answers; 2 wrong usage; 3 refused."

  @Argument(help: "Name of the export.")
  var disk: String
  @OptionGroup var server: BlockServerOptions
  @OptionGroup var output: OutputOptions

  func give(_ command: BlockRequest.Command, _ ending: MoveEnding? = nil) async throws {
    var request = BlockRequest(command, disk: disk)
    request.ending = ending
    try Self.show(await server.client.exchange(request), json: output.json)
  }

  static func show(_ reply: BlockReply, json: Bool) throws {
    let (moves, pulls) = (reply.moves ?? [], reply.pulls ?? [])
    if !moves.isEmpty || pulls.isEmpty { try BlockMoveReport.show(moves, json: json) }
    try BlockPullReport.show(pulls, json: json)
  }
}
