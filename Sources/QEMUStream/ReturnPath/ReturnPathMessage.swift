internal import Base

/// What a destination tells a source: u16 type, u16 length, data, all big-endian.
public enum ReturnPathMessage: Sendable, Hashable {
  /// 1: the destination is done; 0 ends the source, anything else makes its guest go on there.
  case shut(UInt32)
  /// 2: answers `StreamCommand.ping`.
  case pong(UInt32)
  /// 3 and 4: post-copy wants `length` bytes from `start`. `block` nil: the block named last.
  case requestPages(start: UInt64, length: UInt32, block: String?)
  /// 5: which pages of a block arrived. The bitmap follows the message: u64 size in bytes, the
  /// bits (little-endian words, one bit per page), u64 end mark.
  case receivedBitmap(block: String, bits: [UInt8])
  /// 6: a broken post-copy may go on.
  case resumeAck(UInt32)
  /// 7: the source may stop the guest (QEMU >= 8.1).
  case switchoverAck

  enum Code {
    static let shut: UInt16 = 1
    static let pong: UInt16 = 2
    static let requestPagesWithName: UInt16 = 3
    static let requestPages: UInt16 = 4
    static let receivedBitmap: UInt16 = 5
    static let resumeAck: UInt16 = 6
    static let switchoverAck: UInt16 = 7
  }

  /// Follows a received bitmap.
  static let bitmapEndMark: UInt64 = 0x0123_4567_89AB_CDEF

  /// Appends the message. A block name over 255 bytes is cut.
  public func encode(into out: inout [UInt8]) {
    func header(_ code: UInt16, _ length: Int) {
      out.appendBE(code)
      out.appendBE(UInt16(clamping: length))
    }
    switch self {
    case .shut(let value):
      header(Code.shut, 4)
      out.appendBE(value)
    case .pong(let value):
      header(Code.pong, 4)
      out.appendBE(value)
    case .requestPages(let start, let length, nil):
      header(Code.requestPages, 12)
      out.appendBE(start)
      out.appendBE(length)
    case .requestPages(let start, let length, let block?):
      header(Code.requestPagesWithName, 13 + min(block.utf8.count, 255))
      out.appendBE(start)
      out.appendBE(length)
      out.appendCounted(block)
    case .receivedBitmap(let block, let bits):
      header(Code.receivedBitmap, 1 + min(block.utf8.count, 255))
      out.appendCounted(block)
      out.appendBE(UInt64(bits.count))
      out.append(contentsOf: bits)
      out.appendBE(Self.bitmapEndMark)
    case .resumeAck(let value):
      header(Code.resumeAck, 4)
      out.appendBE(value)
    case .switchoverAck: header(Code.switchoverAck, 0)
    }
  }
}
