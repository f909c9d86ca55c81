import Base
import HostIO
import Wire

/// One data lane at the destination: reads batches on a thread of its own and hands them in.
final class LaneReceiver: Sendable {
  private let frames: FrameSocket
  private let pipe: ApplyPipe
  private let thread = Guarded<WorkerThread?>(nil)

  init(_ frames: FrameSocket, pipe: ApplyPipe) { (self.frames, self.pipe) = (frames, pipe) }

  /// - Parameters:
  ///   - previous: the lane's connection before this one, which ends first.
  ///   - onEnd: called once: nil when the peer closed the lane between frames.
  func start(
    lane: UInt16, after previous: LaneReceiver?, onEnd: @escaping @Sendable (RelayFailure?) -> Void
  ) {
    let worker = WorkerThread("gw-lane-rx-\(lane)") { [self] in
      previous?.stop()
      do throws(RelayFailure) {
        while let header = try frames.receiveHeader() {
          guard header.type == .pages else {
            throw .protocolViolation("\(header.type) frame on a data lane")
          }
          try receiveBatch(header)
        }
        onEnd(nil)
      } catch {
        onEnd(error)
      }
      // The source opens the lane again when it sees that this connection is over.
      frames.socket.shutdown()
    }
    thread.update { $0 = worker }
  }

  func stop() {
    frames.socket.shutdown()
    thread.update { $0 }?.join()
  }

  /// Reads the batch header (small, checked) and then its page bytes straight into a page buffer.
  private func receiveBatch(_ frame: FrameHeader) throws(RelayFailure) {
    let payloadLength = frame.payloadLength
    let fixed = SequencedHeader.byteCount + 4
    guard payloadLength >= fixed else {
      throw .protocolViolation("batch of \(payloadLength) bytes")
    }
    var head = try frames.receivePart(fixed)
    let runCount = head.suffix(4).reduce(0) { $0 << 8 | Int($1) }
    guard runCount <= BatchLimits.runsMax, fixed + runCount * PageRun.byteCount <= payloadLength
    else {
      // Who is to blame, the peer or the network? The whole payload tells.
      head += try frames.receivePart(payloadLength - fixed)
      try FrameSocket.check(frame, unsafe FrameChecksum.of(head.span.bytes))
      throw .protocolViolation("batch of \(runCount) runs in \(payloadLength) bytes")
    }
    head += try frames.receivePart(runCount * PageRun.byteCount)
    let byteCount = payloadLength - head.count
    let buffer = byteCount > 0 ? pipe.takeBuffer(byteCount: byteCount) : nil
    if let buffer {
      let isComplete: Bool
      do { isComplete = try unsafe frames.socket.readFully(into: buffer.part(0, byteCount)) } catch
      {
        throw .peer("\(error)")
      }
      guard isComplete else { throw .peer("ended inside a batch") }
      try FrameSocket.check(frame, unsafe FrameChecksum.of(head.span.bytes, buffer.span(byteCount)))
    } else {
      try FrameSocket.check(frame, unsafe FrameChecksum.of(head.span.bytes))
    }
    let header: BatchHeader
    do {
      var cursor = unsafe ByteCursor(head.span.bytes)
      header = try BatchHeader(decoding: &cursor, pageBytes: byteCount)
    } catch {
      throw .protocolViolation("\(error)")
    }
    try pipe.arrived(header.place, .pages(header, buffer))
  }
}
