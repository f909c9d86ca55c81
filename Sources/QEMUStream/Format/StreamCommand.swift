internal import Base

/// A COMMAND record, decoded: type byte 08, u16 code, u16 length, data.
public enum StreamCommand: Sendable, Hashable {
  case openReturnPath
  /// The destination answers PONG with the same value.
  case ping(UInt32)
  /// Post-copy may follow. Nil where only dirty bitmaps are to be post-copied.
  case postcopyAdvise(PageSizes?)
  /// The destination gets ready for pages in any order, on request.
  case postcopyListen
  case postcopyRun
  /// Pages of `block` that the destination must forget before it listens.
  case ramDiscard(block: String, ranges: [DiscardRange])
  /// A nested stream of `length` bytes follows the record.
  case packaged(length: UInt32)
  case enableCOLO
  case postcopyResume
  /// Asks for the bitmap of received pages of a block, after a broken post-copy.
  case receivedBitmap(block: String)
  /// The guest is stopped at the source (QEMU >= 8.1).
  case switchoverStart

  /// What ADVISE says about the source's memory.
  public struct PageSizes: Sendable, Hashable {
    /// All page sizes of the source's blocks, or-ed.
    public var summary: UInt64
    /// Bytes per target page.
    public var targetPage: UInt64
    public init(summary: UInt64, targetPage: UInt64) {
      (self.summary, self.targetPage) = (summary, targetPage)
    }
  }

  /// In bytes from the start of the block.
  public struct DiscardRange: Sendable, Hashable {
    public var start, length: UInt64
    public init(start: UInt64, length: UInt64) { (self.start, self.length) = (start, length) }
  }

  /// QEMU refuses a DISCARD with more ranges than it ever sends.
  public static let discardRangeCountMax = 12

  /// The record's u16, `MIG_CMD_*` in QEMU's `migration/savevm.c`.
  public var code: UInt16 {
    switch self {
    case .openReturnPath: 1
    case .ping: 2
    case .postcopyAdvise: 3
    case .postcopyListen: 4
    case .postcopyRun: 5
    case .ramDiscard: 6
    case .packaged: 7
    case .enableCOLO: 8
    case .postcopyResume: 9
    case .receivedBitmap: 10
    case .switchoverStart: 11
    }
  }

  /// The code's name in QEMU's documentation.
  public var name: String { Self.name(ofCode: code) ?? "\(code)" }

  /// nil for 0 and for codes above that of SWITCHOVER_START.
  public static func name(ofCode code: UInt16) -> String? {
    let names = [
      "OPEN_RETURN_PATH", "PING", "POSTCOPY_ADVISE", "POSTCOPY_LISTEN", "POSTCOPY_RUN",
      "POSTCOPY_RAM_DISCARD", "PACKAGED", "ENABLE_COLO", "POSTCOPY_RESUME", "RECV_BITMAP",
      "SWITCHOVER_START",
    ]
    return (1...UInt16(names.count)).contains(code) ? names[Int(code) - 1] : nil
  }

  /// Appends the record. Data over 65,535 bytes is the caller's mistake: see
  /// `discardRangeCountMax`.
  public func encode(into out: inout [UInt8]) {
    var data: [UInt8] = []
    switch self {
    case .openReturnPath, .postcopyListen, .postcopyRun, .enableCOLO, .postcopyResume,
      .switchoverStart, .postcopyAdvise(nil):
      break
    case .ping(let value), .packaged(let value): data.appendBE(value)
    case .postcopyAdvise(let sizes?):
      data.appendBE(sizes.summary)
      data.appendBE(sizes.targetPage)
    case .ramDiscard(let block, let ranges):
      data.append(0)  // the format's version
      data.appendCounted(block)
      data.append(0)  // the name's terminator
      for range in ranges {
        data.appendBE(range.start)
        data.appendBE(range.length)
      }
    case .receivedBitmap(let block): data.appendCounted(block)
    }
    precondition(data.count <= Int(UInt16.max), "command data over its length field")
    out.append(StreamFormat.Record.command)
    out.appendBE(code)
    out.appendBE(UInt16(data.count))
    out.append(contentsOf: data)
  }
}
