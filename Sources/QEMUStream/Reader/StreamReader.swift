public import Base

/// Reads QEMU's migration stream, version 3, from bytes in any chunks: any split gives the same
/// events (only `tail`, `packaged` and `opaque` bytes may be cut differently).
///
/// Memory: the block list, the configuration and a constant. Pages are never copied. What the
/// reader does not understand it hands over (`HandoverReason`), it never guesses.
///
/// After an error the reader is dead: every further call throws the same error.
public struct StreamReader: Sendable {
  @usableFromInline
  enum State: Sendable {
    case header
    /// Between records; `05` continues the configuration while `subsections` is true.
    case record(subsections: Bool)
    case packaged(remaining: UInt64)
    /// In START, `remaining` bytes of RAM not yet described by the block list.
    case blockList(remaining: UInt64)
    case ramRecords(SectionKind)
    case tail
    case opaque
    case ended
    case failed(StreamError)
  }

  /// Most bytes that `consume` leaves unconsumed.
  public static let carryMax = 64 << 10

  public let limits: StreamLimits
  /// Bytes consumed so far.
  public internal(set) var position: UInt64 = 0
  /// Known once the CONFIGURATION record and its subsections were read.
  public internal(set) var configuration: StreamConfiguration?
  /// RAM's block list; empty before its START section was read.
  public internal(set) var blocks: [RAMBlock] = []
  /// MULTIFD_FLUSH records met. More than none says that pages go through other connections.
  public internal(set) var multifdFlushCount: UInt64 = 0
  /// Whether the stream turned to post-copy order: PACKAGED was met.
  public internal(set) var isPostcopy = false
  /// Whether the end was read.
  public var isComplete: Bool { if case .ended = state { true } else { false } }
  /// Whether the reader handed over.
  public var isOpaque: Bool { if case .opaque = state { true } else { false } }

  @usableFromInline var state = State.header
  var sectionID: UInt32 = 0
  var sectionStart: UInt64 = 0
  var ramIsKnown = false
  var ramIsComplete = false
  var ignoresShared = false
  /// Page sizes other than the target's that ADVISE named, or-ed; 0 without.
  var otherPageSizes: UInt64 = 0
  var blockIndex: [String: Int] = [:]
  var scanner = DescriptionScanner()
  /// The block that CONTINUE refers to; -1 before the first.
  @usableFromInline var lastBlock = -1
  /// Length of that block; 0 without one, so that no offset is inside it.
  @usableFromInline var lastBlockLength: UInt64 = 0

  public init(limits: StreamLimits = .standard) { self.limits = limits }

  /// Consumes whole items from `bytes` and returns how many bytes were used; the caller keeps the
  /// rest (at most `carryMax`) and presents it again with more behind it.
  @inlinable
  public mutating func consume<V: StreamVisitor>(
    _ bytes: RawSpan, _ visitor: inout V
  ) throws(StreamError) -> Int {
    var used = 0
    do throws(StreamError) {
      while used < bytes.byteCount {
        let rest = bytes.extracting(used..<bytes.byteCount)
        let step: Int?
        if case .ramRecords = state {
          let hot = try pageRecords(rest, &visitor)
          step = hot > 0 ? hot : try item(rest, &visitor)
        } else {
          step = try item(rest, &visitor)
        }
        guard let step else { break }
        used &+= step
        advance(step)
      }
    } catch {
      state = .failed(error)
      throw error
    }
    return used
  }

  @usableFromInline mutating func advance(_ count: Int) { position &+= UInt64(count) }

  /// Consumes records of pages of the block named last while they are all there: the hot loop.
  @inlinable
  mutating func pageRecords<V: StreamVisitor>(
    _ bytes: RawSpan, _ visitor: inout V
  ) throws(StreamError) -> Int {
    let count = bytes.byteCount
    let block = lastBlock
    let length = lastBlockLength
    var at = 0
    do throws(VisitorStopped) {
      // The shortest record here has 9 bytes.
      while at &+ 9 <= count {
        // SAFETY: at + 8 < count by the loop's bound; every bit pattern is a valid integer.
        let word = UInt64(
          bigEndian: unsafe bytes.unsafeLoadUnaligned(
            fromUncheckedByteOffset: at, as: UInt64.self))
        let offset = word & ~StreamFormat.RAM.flagMask
        // Both are multiples of a page, so the whole page is inside the block.
        guard offset < length else { break }
        switch word & StreamFormat.RAM.flagMask {
        case StreamFormat.RAM.page | StreamFormat.RAM.sameBlock:
          let end = at &+ 8 &+ Page.size
          guard end <= count else { return at }
          try visitor.page(
            block: block, offset: offset, bytes: bytes.extracting((at &+ 8)..<end))
          at = end
        case StreamFormat.RAM.zero | StreamFormat.RAM.sameBlock:
          // SAFETY: at + 9 <= count by the loop's bound.
          let fill = unsafe bytes.unsafeLoad(fromUncheckedByteOffset: at &+ 8, as: UInt8.self)
          guard fill == 0 else { return at }
          try visitor.zeroPage(block: block, offset: offset)
          at &+= 9
        default: return at
        }
      }
    } catch { throw .stopped }
    return at
  }

  /// The peer closed the stream: complete, or an error that says where it broke off. Bytes that
  /// `consume` left unused are an incomplete item, so the stream is not complete.
  public mutating func finish<V: StreamVisitor>(_ visitor: inout V) throws(StreamError) {
    switch state {
    case .ended: return
    case .failed(let error): throw error
    case .opaque: try endWithoutDescription(&visitor)
    case .tail where scanner.endsWithoutDescription: try endWithoutDescription(&visitor)
    case .header, .record, .packaged, .blockList, .ramRecords, .tail:
      let error = StreamError.malformed(
        DecodeError(.truncated, in: placeName, at: position, found: 0, limit: 1))
      state = .failed(error)
      throw error
    }
  }

  private mutating func endWithoutDescription<V: StreamVisitor>(
    _ visitor: inout V
  ) throws(StreamError) {
    state = .ended
    do { try visitor.ended(descriptionLength: 0) } catch { throw .stopped }
  }

  private var placeName: StaticString {
    switch state {
    case .header: "stream header"
    case .record: "record"
    case .packaged: "packaged stream"
    case .blockList: "RAM block list"
    case .ramRecords: "RAM section"
    case .tail: "device state or description"
    case .opaque, .ended, .failed: "stream"
    }
  }
}
