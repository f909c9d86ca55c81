import Base
import HostIO
import Wire

/// One data lane at the destination: reads batches on a thread of its own and hands them in.
final class LaneReceiver: Sendable {
  private let frames: FrameSocket
  private let pipe: ApplyPipe
  private let thread = Guarded<WorkerThread?>(nil)
  /// The thread is over, or was not begun.
  private let hasEnded = Guarded(true)

  init(_ frames: FrameSocket, pipe: ApplyPipe) { (self.frames, self.pipe) = (frames, pipe) }

  /// - Parameters:
  ///   - previous: the lane's connection before this one, which ends first.
  ///   - onEnd: called once: nil when the peer closed the lane between frames.
  func start(
    lane: UInt16, after previous: LaneReceiver?, onEnd: @escaping @Sendable (RelayFailure?) -> Void
  ) {
    hasEnded.update { $0 = false }
    let worker = WorkerThread("gw-lane-rx-\(lane)") { [self] in
      defer { hasEnded.update { $0 = true } }
      previous?.stop()
      do throws(RelayFailure) {
        while let header = try frames.receiveHeader() {
          switch header.type {
          case .pages:
            let batch = try frames.receiveBatch(header) { pipe.takeBuffer(byteCount: $0) }
            try pipe.arrived(batch.header.place, .pages(batch.header, batch.buffer))
          case .encodedPages:
            let (encoded, body) = try frames.receiveEncoded(header) {
              pipe.takeBuffer(byteCount: $0)
            }
            try pipe.arrived(encoded.batch.place, .encoded(encoded, body))
          default: throw .protocolViolation("\(header.type) frame on a data lane")
          }
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

  func shutdown() { frames.socket.shutdown() }

  func stop() {
    shutdown()
    thread.update { $0 }?.join()
  }

  /// Waits for the thread, but leaves one that a disk holds to it after `timeoutMs`.
  func join(timeoutMs: UInt64) {
    _ = hasEnded.wait(timeoutMs: timeoutMs) { $0 ? true : nil }
  }
}
