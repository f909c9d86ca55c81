import NIOCore

/// Cuts a byte stream into lines at line feeds; a carriage return before one is dropped.
///
/// Invariant: never waits for the rest of a line longer than `lengthMax`.
struct LineFramer: ByteToMessageDecoder {
  typealias InboundOut = ByteBuffer

  struct LineTooLong: Error, CustomStringConvertible {
    let limit: Int
    var description: String { "a line of more than \(limit) bytes" }
  }

  /// Longest line, in bytes without its end.
  let lengthMax: Int
  /// Bytes of the unfinished line already searched, so that each is looked at once.
  private var searched = 0

  init(lengthMax: Int) { self.lengthMax = lengthMax }

  mutating func decode(
    context: ChannelHandlerContext, buffer: inout ByteBuffer
  ) throws -> DecodingState {
    guard let line = try next(in: &buffer) else { return .needMoreData }
    context.fireChannelRead(wrapInboundOut(line))
    return .continue
  }

  /// An unfinished line at the end is dropped: it cannot be told from a cut one.
  mutating func decodeLast(
    context: ChannelHandlerContext, buffer: inout ByteBuffer, seenEOF: Bool
  ) throws -> DecodingState {
    let state = try decode(context: context, buffer: &buffer)
    if state == .needMoreData { buffer.moveReaderIndex(forwardBy: buffer.readableBytes) }
    return state
  }

  /// The next whole line, or nil.
  mutating func next(in buffer: inout ByteBuffer) throws(LineTooLong) -> ByteBuffer? {
    let view = buffer.readableBytesView
    guard let end = view.dropFirst(searched).firstIndex(of: 0x0A) else {
      searched = view.count
      // One more for a carriage return whose line feed has not come yet.
      guard searched <= lengthMax + 1 else { throw LineTooLong(limit: lengthMax) }
      return nil
    }
    searched = 0
    var length = end - view.startIndex
    let hasReturn = length > 0 && view[view.startIndex + length - 1] == 0x0D
    if hasReturn { length -= 1 }
    guard length <= lengthMax else { throw LineTooLong(limit: lengthMax) }
    let line = buffer.readSlice(length: length)
    buffer.moveReaderIndex(forwardBy: hasReturn ? 2 : 1)
    return line
  }
}
