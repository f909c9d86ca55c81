import Agent
import Base
import BlockStore
import NBD

/// What `godwit block serve` prints: one object when clients may come, one at the end.
struct BlockServeStart: Encodable {
  struct Export: Encodable {
    let name: String
    let bytes: UInt64
    let readOnly: Bool
  }
  var event = "serving"
  let exports: [Export]
  let listening: [String]
  /// Port of the metrics.
  @OrNull var metricsPort: Int?
}

struct BlockServeEnd: Encodable {
  var event = "ended"
  let exports: [DiskUse]
}

extension BlockServeCommand {
  func report(_ disks: [ServedDisk], _ listening: [String], _ metricsPort: Int?) throws {
    if output.json {
      let exports = disks.map { disk in
        BlockServeStart.Export(
          name: disk.export.name, bytes: disk.export.byteCount,
          readOnly: disk.export.flags.contains(.readOnly))
      }
      return try Output.json(
        BlockServeStart(exports: exports, listening: listening, metricsPort: metricsPort))
    }
    let names = disks.map { TerminalText.plain($0.export.name) }.joined(separator: ", ")
    Output.line("serving \(names) on \(listening.map(TerminalText.plain).joined(separator: ", "))")
    if let metricsPort { Output.line("metrics on port \(metricsPort)") }
  }

  func reportEnd(_ disks: [ServedDisk]) throws {
    if output.json { return try Output.json(BlockServeEnd(exports: disks.map(\.use))) }
    for use in disks.map(\.use) {
      Output.line(
        "\(TerminalText.plain(use.export)): \(use.reads) reads, \(use.writes) writes, "
          + "\(use.flushes) flushes, \(use.errors) errors")
    }
  }
}
