public import Base

/// Reads return-path messages from bytes that arrive in any chunks.
///
/// Holds at most one incomplete message: a header and 65,535 bytes, or a bitmap within its limit.
public struct ReturnPathReader: Sendable {
  /// Bytes of a RECV_BITMAP; 64 MiB describe 2 TiB of guest memory.
  public let bitmapLengthMax: UInt64
  private var carry: [UInt8] = []
  /// Bytes of complete messages so far.
  private var position: UInt64 = 0
  private var failure: DecodeError?

  public init(bitmapLengthMax: UInt64 = 64 << 20) { self.bitmapLengthMax = bitmapLengthMax }

  /// Whether the bytes so far end in the middle of a message.
  public var hasIncompleteMessage: Bool { !carry.isEmpty }

  /// Takes all of `bytes`; returns the messages they complete, in order. After an error every
  /// further call throws it again; messages before the faulty one in `bytes` are lost with it.
  public mutating func receive(_ bytes: RawSpan) throws(DecodeError) -> [ReturnPathMessage] {
    if let failure { throw failure }
    carry.append(contentsOf: bytes)
    var messages: [ReturnPathMessage] = []
    var used = 0
    do throws(DecodeError) {
      while let (message, size) = try decode(at: used) {
        messages.append(message)
        used += size
        position += UInt64(size)
      }
    } catch {
      failure = error
      throw error
    }
    carry.removeFirst(used)
    return messages
  }

  /// The message at `start`, or nil when its bytes are not all there.
  private func decode(at start: Int) throws(DecodeError) -> (ReturnPathMessage, Int)? {
    // SAFETY: a view of initialized bytes, which `carry` outlives.
    var cursor = ByteCursor(unsafe carry.span.bytes.extracting(start..<carry.count))
    guard cursor.remaining >= 4 else { return nil }
    let code = try cursor.readBE(UInt16.self)
    let length = Int(try cursor.readBE(UInt16.self))
    try check(code, length)
    guard cursor.remaining >= length else { return nil }
    // Decoded within its own length, so that the answer does not depend on what came behind it.
    var data = ByteCursor(try cursor.take(length))
    let message: ReturnPathMessage
    switch code {
    case ReturnPathMessage.Code.shut: message = .shut(try data.readBE())
    case ReturnPathMessage.Code.pong: message = .pong(try data.readBE())
    case ReturnPathMessage.Code.resumeAck: message = .resumeAck(try data.readBE())
    case ReturnPathMessage.Code.requestPages:
      message = .requestPages(start: try data.readBE(), length: try data.readBE(), block: nil)
    case ReturnPathMessage.Code.requestPagesWithName:
      message = .requestPages(
        start: try data.readBE(), length: try data.readBE(), block: try name(&data))
    case ReturnPathMessage.Code.receivedBitmap:
      let block = try name(&data)
      guard data.remaining == 0 else { throw badLength(code, length) }
      guard let bits = try bitmap(&cursor) else { return nil }
      message = .receivedBitmap(block: block, bits: bits)
    default: message = .switchoverAck
    }
    guard data.remaining == 0 else { throw badLength(code, length) }
    return (message, cursor.position)
  }

  /// Refuses a message by its header alone, so that nothing waits for the data of a wrong one.
  private func check(_ code: UInt16, _ length: Int) throws(DecodeError) {
    let allowed: ClosedRange<Int>
    switch code {
    case ReturnPathMessage.Code.shut, ReturnPathMessage.Code.pong,
      ReturnPathMessage.Code.resumeAck:
      allowed = 4...4
    case ReturnPathMessage.Code.requestPagesWithName: allowed = 14...268
    case ReturnPathMessage.Code.requestPages: allowed = 12...12
    case ReturnPathMessage.Code.receivedBitmap: allowed = 2...256
    case ReturnPathMessage.Code.switchoverAck: allowed = 0...0
    default:
      throw DecodeError(.badValue, in: "return path message", at: position, found: UInt64(code))
    }
    guard allowed.contains(length) else { throw badLength(code, length) }
  }

  private func name(_ cursor: inout ByteCursor) throws(DecodeError) -> String {
    do throws(DecodeError) { return try cursor.readCountedString() } catch {
      throw DecodeError(.badName, in: "return path message", at: position)
    }
  }

  private func bitmap(_ cursor: inout ByteCursor) throws(DecodeError) -> [UInt8]? {
    guard cursor.remaining >= 8 else { return nil }
    let size = try cursor.readBE(UInt64.self)
    guard size <= bitmapLengthMax else {
      throw DecodeError(
        .overLimit, in: "received bitmap", at: position, found: size, limit: bitmapLengthMax)
    }
    guard cursor.remaining - 8 >= Int(size) else { return nil }
    var bits: [UInt8] = []
    bits.append(contentsOf: try cursor.take(Int(size)))
    let mark = try cursor.readBE(UInt64.self)
    guard mark == ReturnPathMessage.bitmapEndMark else {
      throw DecodeError(
        .badMagic, in: "received bitmap", at: position, found: mark,
        limit: ReturnPathMessage.bitmapEndMark)
    }
    return bits
  }

  private func badLength(_ code: UInt16, _ length: Int) -> DecodeError {
    DecodeError(.badValue, in: "return path length", at: position, found: UInt64(length))
  }
}
