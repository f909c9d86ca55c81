internal import Base

/// Writes the records around RAM: header, sections of devices, end. `StreamConfiguration`,
/// `StreamCommand` and `RAMWriter` write their own.
public enum StreamItemWriter {
  /// Magic and version; the first eight bytes of every stream.
  public static func header(into out: inout [UInt8]) {
    out.appendBE(StreamFormat.magic)
    out.appendBE(StreamFormat.version)
  }

  /// The head of a START or FULL section; its body and its footer must follow.
  public static func sectionHeader(
    _ kind: SectionKind, id: UInt32, name: String, instance: UInt32, version: UInt32,
    into out: inout [UInt8]
  ) {
    out.append(kind.rawValue)
    out.appendBE(id)
    guard kind == .start || kind == .full else { return }
    out.appendCounted(name)
    out.appendBE(instance)
    out.appendBE(version)
  }

  /// What ends a section: its id once more, by which the reader knows that it has read as much as
  /// was written.
  public static func footer(id: UInt32, into out: inout [UInt8]) {
    out.append(StreamFormat.Record.footer)
    out.appendBE(id)
  }

  /// A device's whole state.
  public static func full(
    id: UInt32, name: String, instance: UInt32, version: UInt32, body: [UInt8],
    into out: inout [UInt8]
  ) {
    sectionHeader(.full, id: id, name: name, instance: instance, version: version, into: &out)
    out.append(contentsOf: body)
    footer(id: id, into: &out)
  }

  /// The end of a pre-copy stream: EOF and the description.
  public static func end(description: String, into out: inout [UInt8]) {
    out.append(StreamFormat.Record.endOfFile)
    out.append(StreamFormat.Record.description)
    out.appendBE(UInt32(clamping: description.utf8.count))
    out.append(contentsOf: description.utf8)
  }

  /// The end of a post-copy stream, or of a machine type without a description.
  public static func end(into out: inout [UInt8]) { out.append(StreamFormat.Record.endOfFile) }
}
