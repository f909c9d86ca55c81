import Base
import HostIO
import QEMUStream
import Wire

/// A frame that waits for its turn, or is being applied.
enum IncomingFrame: Sendable {
  case pages(BatchHeader, PageBuffer?)
  /// Pages that must be unpacked first; the buffer has the body, of as many bytes as the header says.
  case encoded(EncodedHeader, PageBuffer)
  case verbatim([UInt8])
  case ramEnd
  case tail([UInt8])
  /// Of a guest that moves before its memory is complete.
  case invalidPages(InvalidPages)
  case deviceState(DeviceStatePart)

  /// Memory it holds, in bytes.
  var byteCount: Int {
    switch self {
    case .pages(let header, let buffer): header.byteCount + (buffer?.byteCount ?? 0)
    case .encoded(let header, let buffer): header.byteCount + buffer.byteCount
    case .verbatim(let bytes), .tail(let bytes): bytes.count
    case .ramEnd: 0
    case .invalidPages(let pages): pages.runs.count * MemoryLayout<Range<UInt64>>.stride
    case .deviceState(let part): part.bytes.count
    }
  }
}

/// Everything that arrived and is not applied yet, in the order that `ApplyOrder` allows (I4).
///
/// Called by all receiving threads. Bounded (I5): a peer that has more on its way than it was
/// offered breaks the protocol and is refused.
final class ApplyPipe: Sendable {
  private struct State {
    var order = ApplyOrder()
    var frames: [UInt64: IncomingFrame] = [:]
    var bytes = 0
    var pool: [PageBuffer] = []

    /// Keeps a full batch's buffer for another.
    mutating func recycle(_ frame: IncomingFrame) {
      let used: PageBuffer? =
        switch frame {
        case .pages(_, let buffer): buffer
        case .encoded(_, let buffer): buffer
        default: nil
        }
      if let used, used.byteCount == ApplyPipe.fullBatchBytes, pool.count < 64 {
        pool.append(used)
      }
    }
  }

  private let state = Guarded(State())
  private let bytesMax: Int
  /// Applies a frame, or passes it to the thread that will; says whether it is done already.
  private let apply: @Sendable (UInt64, IncomingFrame) throws(RelayFailure) -> Bool
  private let onAdvance: @Sendable (UInt64) -> Void

  /// - Parameters:
  ///   - bytesMax: most bytes of frames held at once.
  ///   - onAdvance: told how far the log is applied, after each step.
  init(
    bytesMax: Int,
    apply: @escaping @Sendable (UInt64, IncomingFrame) throws(RelayFailure) -> Bool,
    onAdvance: @escaping @Sendable (UInt64) -> Void
  ) {
    (self.bytesMax, self.apply, self.onAdvance) = (bytesMax, apply, onAdvance)
  }

  /// Takes a frame in and applies what is ready on the calling thread.
  func arrived(_ place: SequencedHeader, _ frame: IncomingFrame) throws(RelayFailure) {
    let result = state.update { state -> Result<Bool, RelayFailure> in
      do throws(ApplyOrder.Refusal) {
        let ready = try state.order.arrived(sequence: place.sequence, after: place.after)
        state.bytes += frame.byteCount
        guard state.bytes <= bytesMax else {
          return .failure(
            .protocolViolation("\(state.bytes) bytes on their way, \(bytesMax) agreed"))
        }
        state.frames[place.sequence] = frame
        return .success(ready)
      } catch .duplicate {
        // Sent again after a break, though it had arrived: I4 wants it dropped.
        state.recycle(frame)
        return .success(false)
      } catch {
        return .failure(.protocolViolation("frame order: \(error)"))
      }
    }
    if try result.get() { try applyAll([place.sequence]) }
  }

  /// A frame that `apply` had passed on is applied now.
  func finished(_ sequence: UInt64) throws(RelayFailure) { try applyAll(try settle(sequence)) }

  private func applyAll(_ first: [UInt64]) throws(RelayFailure) {
    var ready = first
    var next = 0
    while next < ready.count {
      let sequence = ready[next]
      next += 1
      guard let frame = state.read({ $0.frames[sequence] }) else { continue }
      if try apply(sequence, frame) { ready += try settle(sequence) }
    }
  }

  /// Marks a frame as applied; returns what became ready by it.
  private func settle(_ sequence: UInt64) throws(RelayFailure) -> [UInt64] {
    let result = state.update { state -> Result<([UInt64], UInt64), RelayFailure> in
      if let frame = state.frames.removeValue(forKey: sequence) {
        state.bytes -= frame.byteCount
        state.recycle(frame)
      }
      do throws(ApplyOrder.Refusal) {
        return .success((try state.order.finished(sequence), state.order.appliedThrough))
      } catch {
        return .failure(.protocolViolation("frame order: \(error)"))
      }
    }
    let (ready, through) = try result.get()
    onAdvance(through)
    return ready
  }

  static let fullBatchBytes = BatchLimits.rawPagesMax * Page.size

  /// A buffer for `byteCount` bytes of pages; small batches get small ones.
  func takeBuffer(byteCount: Int) -> PageBuffer {
    guard (Self.fullBatchBytes / 4 * 3...Self.fullBatchBytes).contains(byteCount) else {
      return PageBuffer(byteCount: byteCount)
    }
    return state.update { $0.pool.popLast() } ?? PageBuffer(byteCount: Self.fullBatchBytes)
  }
}
