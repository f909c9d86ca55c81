public import Base

/// What the bytes given by `StreamVisitor.verbatim` are.
public enum VerbatimItem: Sendable, Hashable {
  case header
  /// The CONFIGURATION record or one of its subsections.
  case configuration
  /// One whole command; `StreamCommand(record:)` decodes it.
  case command(UInt16)
  /// A part of the nested stream that follows command 7.
  case packaged
  /// A part of a section that a relay need not understand.
  case section(SectionKind, id: UInt32, name: String)
  /// Anything after a hand-over.
  case opaque
}

/// Why a reader stopped understanding. Not an error: the bytes can still be passed on.
public enum HandoverReason: Sendable, Hashable {
  /// A device that iterates (VFIO, dirty bitmaps): its sections have no length.
  case foreignIterable(name: String)
  /// A device's state before RAM's END (virtio-mem, early vmstate): it has no length.
  case earlyDeviceState(name: String)
  case streamVersion(UInt32)
  case ramVersion(UInt32)
  /// The machine's target page is not 4 KiB.
  case targetPageBits(UInt32)
  /// A capability that changes the format in a way this reader does not know.
  case capability(String)
  case configurationSubsection(String)
  case recordType(UInt8)
  case command(UInt16)
  /// The first word of a RAM record with flags this reader does not take: XBZRLE (040), hooks
  /// (080), compression (100), unknown ones.
  case ramRecord(UInt64)
  /// A zero page filled with another byte (QEMU before 9.1 can express it, none sends it).
  case zeroPageFill(UInt8)
  /// A machine type from before sections had footers.
  case missingFooter
}

/// Thrown by a visitor that wants no more; `StreamReader.consume` then throws `.stopped`.
public struct VisitorStopped: Error, Hashable {
  public init() {}
}

/// Why `StreamReader.consume` went no further.
public enum StreamError: Error, Hashable, Sendable {
  case malformed(DecodeError)
  /// The visitor stopped the reader.
  case stopped
}

extension StreamError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .malformed(let error): error.description
    case .stopped: "stopped by the visitor of the stream"
    }
  }
}

/// What a reader says, in the order of the stream. Spans are borrowed for the call.
public protocol StreamVisitor {
  /// Bytes that a relay forwards unchanged and in order: header, configuration, commands, START of
  /// ram (with its block list), sections of other devices.
  mutating func verbatim(_ bytes: RawSpan, _ item: VerbatimItem) throws(VisitorStopped)
  /// RAM's START section was read; `sectionID` is the id its PART and END sections carry. Its
  /// bytes were given by `verbatim` before.
  mutating func ramBlocks(_ blocks: [RAMBlock], sectionID: UInt32) throws(VisitorStopped)
  /// The header of a PART of RAM.
  mutating func ramPartBegan() throws(VisitorStopped)
  /// Exactly 4096 bytes for `offset` (bytes, a multiple of 4096 inside the block). Blocks are
  /// numbered as in `ramBlocks`.
  mutating func page(block: Int, offset: UInt64, bytes: RawSpan) throws(VisitorStopped)
  mutating func zeroPage(block: Int, offset: UInt64) throws(VisitorStopped)
  /// The footer of a PART of RAM.
  mutating func ramPartEnded() throws(VisitorStopped)
  /// The header of RAM's END section. In pre-copy the guest is stopped now.
  mutating func ramEndBegan() throws(VisitorStopped)
  /// The footer of RAM's END.
  mutating func ramEnded() throws(VisitorStopped)
  /// A section of RAM was read; `range` is its place in the stream, from type byte to footer.
  /// Comes just before `ramBlocks`, `ramPartEnded` or `ramEnded`.
  mutating func ramSection(_ kind: SectionKind, range: Range<UInt64>) throws(VisitorStopped)
  /// Everything after RAM's END: device state, EOF, description. Opaque, in any chunking.
  mutating func tail(_ bytes: RawSpan) throws(VisitorStopped)
  /// The stream is complete. `descriptionLength`: bytes of JSON at the end of the tail; 0 where
  /// the stream has none. Of the tail, the last `6 + descriptionLength` bytes (or 1 without a
  /// description) are EOF and description; what is before them is device state.
  mutating func ended(descriptionLength: Int) throws(VisitorStopped)
  /// From `offset` on the reader no longer understands: all further bytes arrive by
  /// `verbatim(_, .opaque)`. `lastBlock`: the block that the next CONTINUE record would refer to.
  /// Between `ramPartBegan` or `ramEndBegan` and its counterpart, `offset` is inside that section.
  mutating func handedOver(
    _ reason: HandoverReason, at offset: UInt64, lastBlock: Int?
  ) throws(VisitorStopped)
}

extension StreamVisitor {
  public mutating func ramPartBegan() throws(VisitorStopped) {}
  public mutating func ramSection(
    _ kind: SectionKind, range: Range<UInt64>
  ) throws(VisitorStopped) {}
}
