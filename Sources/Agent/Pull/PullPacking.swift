import Base
import Compaction
import HostIO
import Wire

/// Makes pages of a pull small before they go, as far as that pays (`PullEffort`): those that are asked for ahead. What the guest
/// waits for goes as it is.
///
/// One for all connections of a pull, those that come after a break included, so that what was learnt stays known.
final class PullPacking: Sendable {
  private struct State {
    var effort: PullEffort
    /// Lanes that pack at this moment.
    var packing = 0
  }

  private let state: Guarded<State>

  /// - Parameters:
  ///   - effort: always the same; nil: what pays.
  ///   - threads: that may pack at the same time, at least 1.
  ///   - lanes: that carry what is asked for ahead, at least 1.
  init(effort: Effort?, threads: Int, lanes: Int) {
    state = Guarded(
      State(
        effort: PullEffort(
          threads: threads, lanes: lanes, fixed: effort, nowUs: MonotonicClock.nowUs)))
  }

  /// What it took so far, of all lanes together, in microseconds.
  var busyUs: UInt64 { state.read { $0.effort.busyUs } }

  /// The frame in a smaller form; nil: it goes as it is. Waits while as many lanes pack as may.
  ///
  /// - Parameter contents: 4096 bytes for each page that is not zero, in the order of the runs.
  func pack(_ header: BatchHeader, _ contents: RawSpan, with packer: BatchPacker) -> PackedBatch? {
    guard header.rawPageCount > 0 else { return nil }
    let effort = state.update { $0.effort.next() }
    guard effort != .off else { return nil }
    _ = state.wait { state -> Bool? in
      guard state.packing < state.effort.workers else { return nil }
      state.packing += 1
      return true
    }
    let (beganUs, beganProcessorUs) = (MonotonicClock.nowUs, MonotonicClock.threadUs)
    let packed = unsafe packer.pack(header, contents, effort)
    let busyUs = MonotonicClock.nowUs - beganUs
    let processorUs = MonotonicClock.threadUs - beganProcessorUs
    let pageBytes = header.rawPageCount * Page.size
    let packedBytes = pageBytes - max(packed.savedBytes, 0)
    state.update { state in
      state.packing -= 1
      state.effort.packed(
        effort, pageBytes: UInt64(pageBytes), packedBytes: UInt64(packedBytes), busyUs: busyUs,
        processorUs: processorUs)
    }
    return packed.savedBytes > 0 ? packed : nil
  }

  /// A frame was written.
  func sent(_ frame: PullEffort.Frame) { state.update { $0.effort.sent(frame) } }
}
