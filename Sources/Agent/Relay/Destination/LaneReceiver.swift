import Base
import HostIO
import Wire

/// One data lane at the destination: reads batches on a thread of its own and hands them in.
final class LaneReceiver: Sendable {
  private let frames: FrameSocket
  private let pipe: ApplyPipe
  private let thread = Guarded<WorkerThread?>(nil)

  init(_ frames: FrameSocket, pipe: ApplyPipe) { (self.frames, self.pipe) = (frames, pipe) }

  /// `onEnd` is called once: nil when the peer closed the lane between frames.
  func start(lane: Int, onEnd: @escaping @Sendable (RelayFailure?) -> Void) {
    let worker = WorkerThread("gw-lane-rx-\(lane)") { [self] in
      do throws(RelayFailure) {
        while let header = try frames.receiveHeader() {
          guard header.type == .pages else {
            throw .protocolViolation("\(header.type) frame on a data lane")
          }
          try receiveBatch(header.payloadLength)
        }
        onEnd(nil)
      } catch {
        onEnd(error)
      }
    }
    thread.update { $0 = worker }
  }

  func stop() {
    frames.socket.shutdown()
    thread.update { $0 }?.join()
  }

  /// Reads the batch header (small, checked) and then its page bytes straight into a page buffer.
  private func receiveBatch(_ payloadLength: Int) throws(RelayFailure) {
    let fixed = SequencedHeader.byteCount + 4
    guard payloadLength >= fixed else {
      throw .protocolViolation("batch of \(payloadLength) bytes")
    }
    var head = try frames.receivePayload(fixed)
    let runCount = head.suffix(4).reduce(0) { $0 << 8 | Int($1) }
    guard runCount <= BatchLimits.runsMax, fixed + runCount * PageRun.byteCount <= payloadLength
    else { throw .protocolViolation("batch of \(runCount) runs in \(payloadLength) bytes") }
    head += try frames.receivePayload(runCount * PageRun.byteCount)
    let byteCount = payloadLength - head.count
    let header: BatchHeader
    do {
      var cursor = unsafe ByteCursor(head.span.bytes)
      header = try BatchHeader(decoding: &cursor, pageBytes: byteCount)
    } catch {
      throw .protocolViolation("\(error)")
    }
    guard byteCount > 0 else { return try pipe.arrived(header.place, .pages(header, nil)) }
    let buffer = pipe.takeBuffer(byteCount: byteCount)
    do {
      let complete = try unsafe frames.socket.readFully(into: buffer.part(0, byteCount))
      guard complete else { throw RelayFailure.peer("ended inside a batch") }
    } catch let error as RelayFailure {
      throw error
    } catch {
      throw .peer("\(error)")
    }
    try pipe.arrived(header.place, .pages(header, buffer))
  }
}
