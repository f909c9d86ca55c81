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
    let buffer = byteCount > 0 ? takeBuffer(byteCount) : nil
    if let buffer {
      let isComplete: Bool
      do { isComplete = try unsafe socket.readFully(into: buffer.part(0, byteCount)) } catch {
        throw .peer("\(error)")
      }
      guard isComplete else { throw .peer("ended inside a batch") }
      try Self.check(frame, unsafe FrameChecksum.of(head.span.bytes, buffer.span(byteCount)))
    } else {
      try Self.check(frame, unsafe FrameChecksum.of(head.span.bytes))
    }
    let header: BatchHeader
    do {
      var cursor = unsafe ByteCursor(head.span.bytes)
      header = try BatchHeader(decoding: &cursor, pageBytes: byteCount)
    } catch {
      throw .protocolViolation("\(error)")
    }
    return (header, buffer)
  }
}
