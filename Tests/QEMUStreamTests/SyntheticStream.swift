import Base
import QEMUStream

/// Streams made by the writer, for what no small guest produces.
struct SyntheticStream {
  var bytes: [UInt8] = []
  var writer: RAMWriter

  static let blocks = [
    RAMBlock(name: "pc.ram", length: 64 << 12), RAMBlock(name: "pc.bios", length: 4 << 12),
  ]

  /// Header, configuration, commands, START of RAM.
  init(
    blocks: [RAMBlock] = Self.blocks, capabilities: [String] = [],
    commands: [StreamCommand] = []
  ) {
    writer = RAMWriter(sectionID: 2, blocks: blocks)
    StreamItemWriter.header(into: &bytes)
    StreamConfiguration(
      machineType: "pc-i440fx-7.2",
      subsections: capabilities.isEmpty ? [] : [.capabilities(capabilities)]
    ).encode(into: &bytes)
    for command in commands { command.encode(into: &bytes) }
    writer.start(into: &bytes)
  }

  static let page = [UInt8](repeating: 7, count: 4096)

  mutating func part(_ body: (inout RAMWriter, inout [UInt8]) -> Void = { _, _ in }) {
    writer.beginPart(into: &bytes)
    body(&writer, &bytes)
    writer.endSection(into: &bytes)
  }

  mutating func ramEnd() {
    writer.beginEnd(into: &bytes)
    writer.endSection(into: &bytes)
  }

  mutating func device(_ name: String, _ body: [UInt8], id: UInt32 = 5) {
    StreamItemWriter.full(
      id: id, name: name, instance: 0, version: 1, body: body, into: &bytes)
  }

  static let description = #"{"page_size": 4096, "devices": [{"name": "timer", "size": 3}]}"#

  /// What the reader says of the stream.
  func events(limits: StreamLimits = .standard) throws(StreamError) -> [EventLog.Event] {
    var log = EventLog()
    _ = try read(bytes, into: &log, limits: limits)
    return log.events
  }
}

extension [EventLog.Event] {
  var handover: (reason: HandoverReason, offset: UInt64, lastBlock: Int?)? {
    for case .handedOver(let reason, let offset, let block) in self {
      return (reason, offset, block)
    }
    return nil
  }
}
