public import Base

/// What a frame between two agents carries.
public enum FrameType: UInt16, Sendable, CaseIterable {
  /// First frame of every connection, from the side that connected.
  case hello = 1
  /// The answer to `hello`: empty payload, or a refusal in UTF-8.
  case welcome = 2
  /// One control message (JSON, encoded above this layer).
  case message = 3
  /// Pages: a batch header and page bytes. With `encodedPages` the only type on data lanes after the hello.
  case pages = 4
  /// Bytes of QEMU's stream that the destination's QEMU gets unchanged.
  case verbatim = 5
  /// RAM is complete: the destination closes its RAM section.
  case ramEnd = 6
  /// Device state and all that follows RAM in QEMU's stream.
  case tail = 7
  /// How far the destination has applied the log.
  case acknowledge = 8
  /// What this side has received on the control lane; keeps a silent connection apart from a dead one.
  case heartbeat = 9
  /// Nothing follows, and the connection is not to be opened again.
  case bye = 10
  /// Pages that the destination lacks when the guest moves before its memory is complete.
  case invalidPages = 11
  /// Pages that the destination asks for.
  case pullRequest = 12
  /// The destination lacks nothing any more.
  case pullDone = 13
  /// Devices' state of a guest that moves before its memory is complete.
  case deviceState = 14
  /// Bytes of no meaning on a `probe` connection: how fast they arrive is what counts.
  case probe = 15
  /// Where a probe stands; the side that is asked sends it back.
  case probeMark = 16
  /// Pages in whatever form is smallest: what `pages` says, but for how their content is written.
  case encodedPages = 17
  /// Pages that the destination could not make of what it has.
  case pageRequest = 18
  /// Those pages.
  case pageAnswer = 19
  /// Which pages a snapshot at the destination holds, and how to know them.
  case snapshotFilters = 24
  /// What proves pages that the destination may have, before their bytes are asked for.
  case pullIdentities = 25
  /// Pages of a pull that the guest has written most of late.
  case pullHeat = 26
}

/// The 32 bytes before every payload: magic u32 `GWT2`, type u16, reserved u16 (0), length u32,
/// number u64, checksum of the payload u64, checksum of these 28 bytes u32.
///
/// The header has a checksum of its own, so that a length which was changed on the way is not waited for.
public struct FrameHeader: Sendable, Hashable {
  public static let byteCount = 32
  /// `GWT2`, Godwit's wire protocol, second layout.
  public static let magic: UInt32 = 0x4757_5432

  public let type: FrameType
  /// Bytes of payload that follow.
  public let payloadLength: Int
  /// Place on the control lane, from 1; 0: not numbered, and not sent again.
  public let number: UInt64
  /// `FrameChecksum` of the payload.
  public let payloadChecksum: UInt64

  /// For a frame to be sent: what `payloadLimit` says is the caller's to keep.
  public init(type: FrameType, payloadLength: Int, number: UInt64 = 0, payloadChecksum: UInt64) {
    (self.type, self.payloadLength) = (type, payloadLength)
    (self.number, self.payloadChecksum) = (number, payloadChecksum)
  }

  /// Largest payload accepted for a type, in bytes: what an honest peer never exceeds.
  public static func payloadLimit(_ type: FrameType) -> Int {
    switch type {
    case .hello, .welcome: 4096
    case .message: 8 << 20
    case .pages: BatchHeader.byteCountMax + BatchLimits.rawPagesMax * Page.size
    case .verbatim, .tail: SequencedHeader.byteCount + SequencedHeader.chunkMax
    case .ramEnd: SequencedHeader.byteCount
    case .acknowledge: Acknowledgement.byteCount
    case .heartbeat: Heartbeat.byteCount
    case .bye: 0
    case .invalidPages: InvalidPages.byteCountMax
    case .pullRequest: PullRequests.byteCountMax
    case .pullDone: PullDone.byteCountMax
    case .pullIdentities: PullIdentities.byteCountMax
    case .pullHeat: PullHeat.byteCountMax
    case .deviceState: DeviceStatePart.byteCountMax
    case .probe: ProbeLimits.fillerMax
    case .probeMark: ProbeMark.byteCount
    case .pageRequest: PageRequestFrame.byteCountMax
    case .pageAnswer: PageAnswerFrame.byteCountMax
    case .snapshotFilters: SnapshotFilters.byteCountMax
    case .encodedPages: EncodedHeader.byteCountMax + EncodedHeader.bodyBytesMax
    }
  }

  /// Reads `byteCount` bytes. Throws on another magic, on a header that its own checksum doesn't
  /// fit, on a reserved field that isn't zero, on a type that isn't known, and on a length over the
  /// type's `payloadLimit`; nothing of the payload is looked at.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    let start = UInt64(cursor.position)
    let fixed = try cursor.take(Self.byteCount - 4)
    let checksum = UInt64(try cursor.readBE(UInt32.self))
    var fields = ByteCursor(fixed)
    let magic = try fields.readBE(UInt32.self)
    guard magic == Self.magic else {
      throw DecodeError(
        .badMagic, in: "frame", at: start, found: UInt64(magic), limit: UInt64(Self.magic))
    }
    let expected = UInt64(Self.checksum(fixed))
    guard checksum == expected else {
      throw DecodeError(
        .badChecksum, in: "frame header", at: start, found: checksum, limit: expected)
    }
    let rawType = try fields.readBE(UInt16.self)
    guard let type = FrameType(rawValue: rawType) else {
      throw DecodeError(.badValue, in: "frame type", at: start + 4, found: UInt64(rawType))
    }
    let reserved = try fields.readBE(UInt16.self)
    guard reserved == 0 else {
      throw DecodeError(
        .badValue, in: "frame reserved field", at: start + 6, found: UInt64(reserved))
    }
    let length = Int(try fields.readBE(UInt32.self))
    guard length <= Self.payloadLimit(type) else {
      throw DecodeError(
        .overLimit, in: "frame length", at: start + 8, found: UInt64(length),
        limit: UInt64(Self.payloadLimit(type)))
    }
    let number: UInt64 = try fields.readBE()
    self.init(
      type: type, payloadLength: length, number: number, payloadChecksum: try fields.readBE())
  }

  /// Appends `byteCount` bytes, the header's own checksum included.
  public func encode(into out: inout [UInt8]) {
    let start = out.count
    out.appendBE(Self.magic)
    out.appendBE(type.rawValue)
    out.appendBE(UInt16(0))
    out.appendBE(UInt32(truncatingIfNeeded: payloadLength))  // <= payloadLimit, fits
    out.appendBE(number)
    out.appendBE(payloadChecksum)
    let checksum = unsafe Self.checksum(out.span.bytes.extracting(start...))
    out.appendBE(checksum)
  }

  /// Of the header without its last field.
  private static func checksum(_ fixed: RawSpan) -> UInt32 {
    UInt32(truncatingIfNeeded: FrameChecksum.of(fixed))
  }
}
