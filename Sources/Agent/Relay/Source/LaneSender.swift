import Base
import HostIO
import Wire

/// One data lane at the source: takes batches and writes them, on a thread of its own.
final class LaneSender: Sendable {
  let frames: FrameSocket
  private let queue: SendQueue
  /// Guest memory by block number, for batches that carry no bytes.
  private let shared: @Sendable (Int) -> SharedFile?
  private let scratch = PageBuffer(byteCount: BatchLimits.rawPagesMax * Page.size)
  private let thread = Guarded<WorkerThread?>(nil)

  init(
    _ frames: FrameSocket, queue: SendQueue, shared: @escaping @Sendable (Int) -> SharedFile?
  ) {
    (self.frames, self.queue, self.shared) = (frames, queue, shared)
  }

  func start(lane: Int) {
    let worker = WorkerThread("gw-lane-tx-\(lane)") { [self] in
      do throws(RelayFailure) {
        while let (batch, delayUs) = try queue.take() {
          if delayUs > 0 { MonotonicClock.sleep(us: delayUs) }
          try send(batch)
        }
      } catch {
        queue.fail(error)
      }
    }
    thread.update { $0 = worker }
  }

  func join() { thread.update { $0 }?.join() }

  private func send(_ batch: PageBatch) throws(RelayFailure) {
    var head: [UInt8] = []
    head.reserveCapacity(batch.header.byteCount)
    batch.header.encode(into: &head)
    let byteCount = batch.header.rawPageCount * Page.size
    let buffer = batch.buffer ?? scratch
    if batch.buffer == nil, byteCount > 0 { try readPages(of: batch.header) }
    try unsafe frames.send(.pages, head, body: buffer.part(0, byteCount))
    if let used = batch.buffer { queue.giveBack(used) }
  }

  /// Reads the batch's raw pages out of guest memory as they are now: at least as new as QEMU saw.
  private func readPages(of header: BatchHeader) throws(RelayFailure) {
    var place = 0
    for run in header.runs where run.pageClass == .raw {
      let count = Int(run.count) * Page.size
      guard let memory = shared(Int(run.block)) else {
        throw .memory("RAM block \(run.block) is not shared")
      }
      do {
        try unsafe memory.read(
          at: run.firstPage << UInt64(Page.shift), into: scratch.part(place, count))
      } catch {
        throw .memory("\(error)")
      }
      place += count
    }
  }
}
