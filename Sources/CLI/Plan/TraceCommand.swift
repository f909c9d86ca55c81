import Agent
import ArgumentParser
import Base
import Simulator

struct TraceCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "trace", abstract: "Record what a running guest dirties, for the simulator.",
    discussion: """
      VM is a name from `godwit vms`, or qmp:PATH. The guest is neither moved nor slowed down: its agent \
      reads a sample of its pages at regular instants from outside, with at most a fifth of one core, and \
      counts which of them have changed. The file is small text; `godwit simulate run --trace FILE` \
      replays it. A page that was written with what it held already isn't seen as dirtied.

      A file that exists is replaced once the recording is complete. With --json the command prints one \
      object about the trace at the end.
      """)

  @Argument(help: "Name of the VM, or qmp:PATH.")
  var vm: String
  @Option(
    name: .customLong("for"),
    help: ArgumentHelp(
      "How long to record, at most an hour (default: 30s).", valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var length: UInt64?
  @Option(
    help: ArgumentHelp(
      "Length of an epoch, at least 50ms (default: 500ms).", valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var every: UInt64?
  @Option(
    name: [.customShort("o"), .long], help: ArgumentHelp("File to write.", valueName: "path"))
  var outputFile: String
  @OptionGroup var control: ControlOptions
  @OptionGroup var output: OutputOptions

  var request: TraceRequest {
    TraceRequest(vm: vm, lengthMs: length ?? 30_000, epochMs: every ?? 500)
  }

  func validate() throws {
    if let problem = request.problem { throw ValidationError(problem) }
  }

  func run() async throws {
    // Before the recording: it would be lost otherwise.
    try TraceFile.checkWritable(outputFile)
    let record = try await follow()
    let trace = try DirtyTrace(record)
    try TraceFile.write(trace, to: outputFile)
    if output.json {
      try Output.json(Answer(record, path: outputFile))
    } else {
      let dirtied = trace.epochs.map(\.dirtiedPages).max() ?? 0
      Output.line(
        "\(TerminalText.plain(outputFile)): \(trace.epochs.count) epochs of "
          + "\(TerminalText.plain(record.vm)), at most \(Self.size(dirtied)) dirtied in one; "
          + "\(record.sampledPages) of \(record.ramPages) pages looked at (\(record.source.rawValue))"
      )
    }
  }

  private func follow() async throws -> TraceRecord {
    var line = StatusLine()
    defer { line.clear() }
    for try await update in control.client.trace(request) {
      switch update {
      case .look(let look):
        guard !output.json else { continue }
        line.show(
          "\(look.epochs) of \(request.epochCount) epochs; "
            + "\(Self.size(look.dirtiedPages)) dirtied in the last \(Milliseconds.format(look.lastMs))"
        )
      case .finished(let record): return record
      }
    }
    throw ControlError(.failed, "the agent closed the connection")
  }

  private static func size(_ pages: UInt64) -> String {
    ByteCount(pages << UInt64(Page.shift)).description
  }
}

extension TraceCommand {
  struct Answer: Encodable {
    let trace: String
    let vm: String
    let source: String
    let epochs: Int
    let sampledPages: UInt64
    let ramPages: UInt64
    let unseenPages: UInt64
    let zeroPages: UInt64

    init(_ record: TraceRecord, path: String) {
      (trace, vm, source) = (path, record.vm, record.source.rawValue)
      (epochs, sampledPages, ramPages) = (
        record.epochs.count, record.sampledPages, record.ramPages
      )
      (unseenPages, zeroPages) = (record.unseenPages, record.zeroPages)
    }
  }
}

extension DirtyTrace {
  /// What an agent recorded. It came over a socket: numbers that fit no guest are refused.
  init(_ record: TraceRecord) throws(ControlError) {
    self.init(
      ramPages: record.ramPages, zeroPages: min(record.zeroPages, record.ramPages),
      vcpuCount: record.vcpuCount,
      epochs: record.epochs.map { numbers in
        Epoch(lengthMs: numbers.first ?? 0, dirtiedByHeat: Array(numbers.dropFirst()))
      })
    do {
      // What is written must be readable again.
      self = try DirtyTrace(parsing: Array(text.utf8))
    } catch {
      throw ControlError(.protocolMismatch, "the agent's trace is none: \(error)")
    }
  }
}
