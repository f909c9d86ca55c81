public import QEMUStream

/// Streams made by the writer, for what no small guest produces.
public struct SyntheticStream {
  public var bytes: [UInt8] = []
  public var writer: RAMWriter

  public static let blocks = [
    RAMBlock(name: "pc.ram", length: 64 << 12), RAMBlock(name: "pc.bios", length: 4 << 12),
  ]

  /// Header, configuration, commands, START of RAM.
  public init(
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

  public static let page = [UInt8](repeating: 7, count: 4096)

  public mutating func part(_ body: (inout RAMWriter, inout [UInt8]) -> Void = { _, _ in }) {
    writer.beginPart(into: &bytes)
    body(&writer, &bytes)
    writer.endSection(into: &bytes)
  }

  public mutating func ramEnd() {
    writer.beginEnd(into: &bytes)
    writer.endSection(into: &bytes)
  }

  public mutating func device(_ name: String, _ body: [UInt8], id: UInt32 = 5) {
    StreamItemWriter.full(
      id: id, name: name, instance: 0, version: 1, body: body, into: &bytes)
  }

  public static let description = #"{"page_size": 4096, "devices": [{"name": "timer", "size": 3}]}"#
}
