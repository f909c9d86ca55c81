import Base
import HostIO
import Wire

extension FrameSocket {
  /// Reads the batch header (small, checked) and then its page bytes straight into a page buffer.
  ///
  /// - Parameter takeBuffer: memory for so many bytes, at least.
  func receiveBatch(
    _ frame: FrameHeader, takeBuffer: (Int) -> PageBuffer
  ) throws(RelayFailure) -> (header: BatchHeader, buffer: PageBuffer?) {
    let payloadLength = frame.payloadLength
    let fixed = SequencedHeader.byteCount + 4
    guard payloadLength >= fixed else {
      throw .protocolViolation("batch of \(payloadLength) bytes")
    }
    var head = try receivePart(fixed)
    let runCount = head.suffix(4).reduce(0) { $0 << 8 | Int($1) }
    guard runCount <= BatchLimits.runsMax, fixed + runCount * PageRun.byteCount <= payloadLength
    else {
      // Who is to blame, the peer or the network? The whole payload tells.
      head += try receivePart(payloadLength - fixed)
      try Self.check(frame, unsafe FrameChecksum.of(head.span.bytes))
      throw .protocolViolation("batch of \(runCount) runs in \(payloadLength) bytes")
    }
    head += try receivePart(runCount * PageRun.byteCount)
    let byteCount = payloadLength - head.count
    let buffer = try receiveBody(byteCount, frame, behind: head, takeBuffer)
    let header: BatchHeader
    do {
      var cursor = unsafe ByteCursor(head.span.bytes)
      header = try BatchHeader(decoding: &cursor, pageBytes: byteCount)
    } catch {
      throw .protocolViolation("\(error)")
    }
    return (header, buffer)
  }

  /// The same for an encoded batch: its header, then its body.
  func receiveEncoded(
    _ frame: FrameHeader, takeBuffer: (Int) -> PageBuffer
  ) throws(RelayFailure) -> (header: EncodedHeader, body: PageBuffer) {
    let payloadLength = frame.payloadLength
    guard payloadLength >= EncodedHeader.fixedByteCount else {
      throw .protocolViolation("encoded batch of \(payloadLength) bytes")
    }
    var head = try receivePart(EncodedHeader.fixedByteCount)
    let variable: Int
    do {
      variable = try EncodedHeader.variableByteCount(fixed: unsafe head.span.bytes)
    } catch {
      variable = payloadLength
    }
    guard EncodedHeader.fixedByteCount + variable <= payloadLength else {
      head += try receivePart(payloadLength - head.count)
      try Self.check(frame, unsafe FrameChecksum.of(head.span.bytes))
      throw .protocolViolation("runs of an encoded batch in \(payloadLength) bytes")
    }
    head += try receivePart(variable)
    let byteCount = payloadLength - head.count
    let body = try receiveBody(byteCount, frame, behind: head, takeBuffer)
    let header: EncodedHeader
    do {
      var cursor = unsafe ByteCursor(head.span.bytes)
      header = try EncodedHeader(decoding: &cursor, bodyBytes: byteCount)
    } catch {
      throw .protocolViolation("\(error)")
    }
    return (header, body ?? PageBuffer(byteCount: 0))
  }

  /// Reads what follows the header of a batch, and checks the whole; nil when nothing follows.
  private func receiveBody(
    _ byteCount: Int, _ frame: FrameHeader, behind head: [UInt8], _ takeBuffer: (Int) -> PageBuffer
  ) throws(RelayFailure) -> PageBuffer? {
    guard byteCount > 0 else {
      try Self.check(frame, unsafe FrameChecksum.of(head.span.bytes))
      return nil
    }
    let buffer = takeBuffer(byteCount)
    let isComplete: Bool
    do { isComplete = try unsafe socket.readFully(into: buffer.part(0, byteCount)) } catch {
      throw .peer("\(error)")
    }
    guard isComplete else { throw .peer("ended inside a batch") }
    try Self.check(frame, unsafe FrameChecksum.of(head.span.bytes, buffer.span(byteCount)))
    return buffer
  }
}
