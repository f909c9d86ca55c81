import Base
import HostIO
import Strategy
import Wire

/// Decides which pages go next, and numbers everything that leaves: the source's one sender of frames
/// in order, on a thread of its own.
///
/// A page leaves the ledger here, before its bytes are read out of the guest's memory by another thread, so
/// that a later write of the guest's comes back as a new version.
final class PagePicker: Sendable {
  let ledger: SourceLedger
  let queue: SendQueue
  let control: ControlLane
  /// Nil: batches go to the queue as they are.
  private let encoders: EncoderPool?
  private let pen: PageBuffer
  private let thread = Guarded<WorkerThread?>(nil)

  init(
    ledger: SourceLedger, queue: SendQueue, control: ControlLane, encoders: EncoderPool? = nil
  ) {
    (self.ledger, self.queue, self.control, self.encoders) = (ledger, queue, control, encoders)
    pen = ledger.state.read { $0.pen.buffer }
  }

  /// Starts the thread. `onFailure` is called at most once.
  func start(onFailure: @escaping @Sendable (RelayFailure) -> Void) {
    let worker = WorkerThread("gw-picker") { [self] in
      do throws(RelayFailure) { try pickAll() } catch { onFailure(error) }
    }
    thread.update { $0 = worker }
  }

  func join() { thread.update { $0 }?.join() }

  private enum Work {
    case ordered(SourceLedger.Ordered)
    case pages(PickedPages)
    case blocks([Int])
  }

  private func pickAll() throws(RelayFailure) {
    var tracker = BarrierTracker(blockPages: [])
    var knowsBlocks = false
    while true {
      let work = ledger.state.wait { state -> Result<Work, RelayFailure>? in
        if let failure = state.failure { return .failure(failure) }
        if !knowsBlocks, let counts = state.ledger?.numbering.counts {
          return .success(.blocks(counts))
        }
        if let item = state.ordered.first, item.mayGo(state) {
          state.ordered.removeFirst()
          state.orderedBytes -= item.byteCount
          switch item {
          case .ramEnd: state.noteStopSet()
          case .invalidPages:
            state.noteStopSet()
            state.invalidPages = UInt64(state.owedCount)
          default: break
          }
          return .success(.ordered(item))
        }
        return state.pick().map { .success(.pages($0)) }
      }
      guard let work = try work?.get() else { return }
      switch work {
      case .blocks(let counts):
        tracker.setBlocks(pages: counts)
        knowsBlocks = true
      case .ordered(let item): try send(item, &tracker)
      case .pages(let pages): try send(pages, &tracker)
      }
    }
  }

  private func send(_ pages: PickedPages, _ tracker: inout BarrierTracker) throws(RelayFailure) {
    try queue.reserve(zeroPages: pages.zeroPages)
    var buffer: PageBuffer?
    if !pages.places.isEmpty {
      let target = queue.takeBuffer()
      for (index, place) in pages.places.enumerated() {
        // SAFETY: `part` checks its bounds; the places are ours until they are released.
        unsafe target.part(index * Page.size, Page.size).copyMemory(
          from: UnsafeRawBufferPointer(pen.part(Int(place) * Page.size, Page.size)))
      }
      ledger.state.update { $0.pen.release(pages.places) }
      buffer = target
    }
    separate(pages.runs, &tracker)
    let header = BatchHeader(place: tracker.nextPlace(), runs: pages.runs)
    let batch = PageBatch(header: header, buffer: buffer, isScan: pages.isScan)
    if let encoders { encoders.append(batch) } else { try queue.append(batch) }
  }

  /// Places a barrier before the pages where one is needed.
  private func separate(_ runs: [PageRun], _ tracker: inout BarrierTracker) {
    if tracker.note(runs) {
      encoders?.separate(runs)
    } else if encoders?.mustSeparate(runs) == true {
      tracker.placeBarrier()
      tracker.note(runs)
      encoders?.separate(runs)
    }
  }

  private func send(
    _ item: SourceLedger.Ordered, _ tracker: inout BarrierTracker
  ) throws(RelayFailure) {
    switch item {
    case .verbatim(let bytes, let inWindow):
      try sendInOrder(.verbatim, bytes, inWindow: inWindow, &tracker)
    case .ramEnd: try sendInOrder(.ramEnd, [], inWindow: false, &tracker)
    case .tail(let bytes): try sendInOrder(.tail, bytes, inWindow: false, &tracker)
    case .invalidPages: try sendInvalidPages(&tracker)
    case .deviceState(let bytes): try sendDeviceState(bytes, &tracker)
    case .handOver(let bytes):
      if !bytes.isEmpty { try sendInOrder(.verbatim, bytes, inWindow: false, &tracker) }
    }
  }

  /// Sends bytes that must be applied after everything before and before everything behind them.
  ///
  /// - Parameter inWindow: wait for room in the window, like a batch. What follows the guest's stop
  ///   does not: it is small, and back-pressure would freeze a stopped QEMU's monitor.
  private func sendInOrder(
    _ type: FrameType, _ bytes: [UInt8], inWindow: Bool, _ tracker: inout BarrierTracker
  ) throws(RelayFailure) {
    // What is behind it is a new generation; and the window is given out in order.
    encoders?.drain()
    var start = 0
    repeat {
      let count = min(bytes.count - start, SequencedHeader.chunkMax)
      var payload: [UInt8] = []
      payload.reserveCapacity(SequencedHeader.byteCount + count)
      let place = tracker.nextExclusivePlace()
      if inWindow {
        let weight = UInt64(FrameHeader.byteCount + SequencedHeader.byteCount + count)
        try queue.announce(place.sequence, bytes: weight)
      } else {
        queue.announce(place.sequence)
      }
      place.encode(into: &payload)
      payload += bytes[start..<(start + count)]
      start += count
      try control.send(type, payload)
    } while start < bytes.count
  }
}

extension SourceLedger.State {
  /// RAM is complete: what was sent since the guest stopped is the stop set.
  fileprivate mutating func noteStopSet() {
    guard let takenAtStop, let ledger else { return }
    stopSetPages = ledger.takenCount - takenAtStop
  }
}

extension SourceLedger.Ordered {
  /// Whether nothing that must go before it is left.
  func mayGo(_ state: SourceLedger.State) -> Bool {
    switch self {
    case .verbatim, .tail, .deviceState: true
    case .invalidPages: state.nextUnreadable == nil
    case .ramEnd, .handOver: state.owedCount == 0
    }
  }
}
