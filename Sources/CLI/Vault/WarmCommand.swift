import Agent
import ArgumentParser
import Base

/// `godwit warm`: a guest's memory ahead of the guest.
struct WarmCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "warm", abstract: "Copy a guest's memory ahead of time, so that it moves quickly.",
    discussion: """
      VM is a name from `godwit vms`, or qmp:PATH. DESTINATION is the agent there, HOST or HOST:PORT. The \
      memory of the guest, which goes on running, is copied into the vault of the destination (godwit vault) \
      at a low rate. A migration there sends what has changed since and little else: every page is proven \
      before it is used, so a copy that is old costs bandwidth, never correctness.

      Without --keep-fresh that is done once. A later pass sends only what differs. It is over when this \
      command ends; with --json each pass that is through is one object on a line. Exit status: 0 done; \
      1 failed; 2 wrong usage; 3 refused.
      """)

  @Argument(help: "Name of the VM, or qmp:PATH.")
  var vm: String
  @Argument(help: "Agent of the destination, HOST or HOST:PORT.")
  var destination: String
  @Option(
    help: ArgumentHelp(
      "Cap on the network, as 1Gbit or 100MiB/s (default: 100Mbit).", valueName: "rate"),
    transform: UnitArguments.rate)
  var bandwidth: ByteRate?
  @Flag(help: "Go on, pass after pass, until this command ends.")
  var keepFresh = false
  @Option(
    help: ArgumentHelp(
      "Pause between two passes, with --keep-fresh (default: 10m).", valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var every: UInt64?
  @OptionGroup var control: ControlOptions
  @OptionGroup var output: OutputOptions

  static let everyMsDefault: UInt64 = 600_000

  var request: WarmRequest {
    var request = WarmRequest(vm: vm, destination: destination)
    if let bandwidth { request.bandwidthBytesPerSecond = bandwidth.bytesPerSecond }
    if keepFresh { request.everyMs = every ?? Self.everyMsDefault }
    return request
  }

  func validate() throws {
    if every != nil, !keepFresh { throw ValidationError("--every goes with --keep-fresh") }
    if let problem = request.problem { throw ValidationError(problem) }
  }

  func run() async throws {
    var line = StatusLine()
    defer { line.clear() }
    var hasEnded = false
    for try await update in control.client.warm(request) {
      switch update {
      case .look(let look): if !output.json { line.show(Self.text(look)) }
      case .pass(let record):
        hasEnded = true
        line.clear()
        if output.json { try Output.json(record) } else { Output.line(Self.text(record)) }
      }
    }
    guard hasEnded, !keepFresh else {
      throw ControlError(.failed, "the agent closed the connection")
    }
  }

  static func text(_ look: WarmLook) -> String {
    let percent = look.ramBytes > 0 ? look.doneBytes * 100 / look.ramBytes : 100
    let eta = look.etaMs.map { ", \(Milliseconds.format($0)) left" } ?? ""
    return "\(percent) % of \(ByteCount(look.ramBytes)), \(ByteCount(look.wireBytes)) sent\(eta)"
  }

  static func text(_ record: WarmRecord) -> String {
    let kept = ByteCount(record.keptBytes)
    let shares =
      "\(RecordReport.grouped(record.sentPages)) pages sent, \(RecordReport.grouped(record.heldPages)) were there"
    return TerminalText.plain(
      "\(record.vm): \(kept) kept at \(record.destination) in \(Milliseconds.format(record.durationMs)); "
        + "\(shares), \(ByteCount(record.wireBytes)) on the wire")
  }
}
