import Base
import Compaction
import HostIO
import QEMUStream
import Wire

/// Between the thread that picks pages and the queue of the lanes: threads that write batches in the
/// smallest form that pays. Batches leave in the order in which they came.
final class EncoderPool: Sendable {
  fileprivate struct State {
    var waiting: [PageBatch] = []
    /// Begun and not yet with the queue, in order.
    var begun: [UInt64] = []
    var controller: EffortController
    var interval = EffortController.Interval()
    var intervalBeganUs = MonotonicClock.nowUs
    var busyUs: UInt64 = 0
    var isOver = false
  }

  private let state: Guarded<State>
  private let queue: SendQueue
  private let workerCount: Int
  private let references: SentReferences?
  private let held: HeldPages?
  private let blocks: @Sendable () -> [RAMBlock]
  private let disks: DiskDirectory?
  private let gang: GangReferences?
  private let answerable: Set<String>
  private let memory: @Sendable (Int) -> GuestPlace?
  private let workers = Guarded<[WorkerThread]>([])

  /// - Parameters:
  ///   - blocks: the stream's RAM blocks, known before the first batch.
  ///   - held: what a snapshot at the destination holds; nil: there is none that may be used.
  ///   - memory: guest memory by block number, for batches that carry no bytes.
  init(
    _ plan: CompactionPlan, queue: SendQueue, held: HeldPages? = nil,
    blocks: @escaping @Sendable () -> [RAMBlock],
    memory: @escaping @Sendable (Int) -> GuestPlace?
  ) {
    references =
      plan.readableBlocks.isEmpty
      ? nil
      : SentReferences(
        readable: plan.readableBlocks, byteLimit: plan.memoryBytes, blocks: blocks)
    (workerCount, self.queue, self.memory) = (plan.threads, queue, memory)
    (self.held, self.blocks) = (held, blocks)
    (disks, answerable) = (plan.disks, plan.answerableBlocks)
    gang = plan.gang.map { GangReferences($0, readable: plan.gangBlocks, blocks: blocks) }
    queue.setEncoderCount(plan.threads)
    state = Guarded(
      State(controller: EffortController(workers: plan.threads, fixed: plan.effort)))
  }

  /// Starts the threads. `onFailure` is called at most once a thread.
  func start(onFailure: @escaping @Sendable (RelayFailure) -> Void) {
    for number in 0..<workerCount {
      let worker = WorkerThread("gw-encode-\(number)") { [self] in
        do throws(RelayFailure) { try encodeAll() } catch { onFailure(error) }
      }
      workers.update { $0.append(worker) }
    }
  }

  /// Ends the threads; what waits is lost.
  func shutdown() { state.update { $0.isOver = true } }

  func join() { for worker in workers.read({ $0 }) { worker.join() } }

  /// Takes a batch in. Blocks while enough of them wait.
  func append(_ batch: PageBatch) {
    queue.encodingBegan(batch)
    _ = state.wait { state -> Bool? in
      if state.isOver { return true }
      // Little: what is here has left the ledger, and a newer version of it would go besides.
      guard state.waiting.count + state.begun.count <= workerCount else { return nil }
      state.waiting.append(batch)
      return true
    }
  }

  /// Before pages are numbered that the generation does not have yet: whether a barrier must stand before
  /// them all the same. Then, as behind every other barrier, `separate` comes next.
  func mustSeparate(_ runs: [PageRun]) -> Bool { references?.numbering(runs) ?? false }

  /// A barrier stands before these pages: what is remembered of pages is to be as it will be at the destination
  /// when they are applied there, so everything before them is encoded first.
  func separate(_ runs: [PageRun]) {
    guard let references else { return }
    drain()
    references.separated(runs)
  }

  /// Waits until every batch is with the queue.
  func drain() {
    _ = state.wait { $0.isOver || ($0.waiting.isEmpty && $0.begun.isEmpty) ? true : nil }
  }

  /// The destination asked for pages that it could not make of what it has. What they were to be made of loses credit,
  /// and nothing else.
  func noteRefetched(_ request: PageRequestFrame) {
    guard disks != nil || gang != nil || held != nil,
      let header = queue.unconfirmed(sequence: request.sequence)?.encoded?.header
    else { return }
    let asked = Set(request.places)
    let missed = zip(header.batch.runs.rawPlaces, header.kinds).filter { asked.contains($0.0) }
    disks?.noteRefetched(missed.count { $0.1 == .disk })
    held?.noteRefetched(missed.count { $0.1 == .held })
    held?.elsewhere?.noteRefetched(missed.count { $0.1 == .vault })
    gang?.failed(missed.filter { $0.1 == .gang }.map { $0.0 })
  }

  /// The destination applied everything up to `sequence`.
  func noteApplied(through sequence: UInt64) { gang?.applied(through: sequence) }

  /// Whether pages may refer to those of other guests.
  var isInGang: Bool { gang != nil }

  /// Time that the workers spent on packing so far, in microseconds.
  var busyUs: UInt64 { state.read { $0.busyUs } }

  private func encodeAll() throws(RelayFailure) {
    let encoder = BatchEncoder(
      queue: queue, references: references, held: held, disks: disks, gang: gang,
      answerable: answerable, blocks: blocks, memory: memory)
    while true {
      let waitedFromUs = MonotonicClock.nowUs
      let next = state.wait { state -> (PageBatch, Effort)?? in
        if state.isOver { return .some(nil) }
        guard let batch = state.waiting.first else { return nil }
        state.waiting.removeFirst()
        state.begun.append(batch.header.place.sequence)
        return (batch, state.controller.next())
      }
      guard let (batch, effort) = next ?? nil else { return }
      let (beganUs, beganProcessorUs) = (MonotonicClock.nowUs, MonotonicClock.threadUs)
      let encoded = try encoder.encode(batch, effort)
      let endedUs = MonotonicClock.nowUs
      let processorUs = MonotonicClock.threadUs - beganProcessorUs
      let isMyTurn = state.wait { state -> Bool? in
        if state.isOver { return false }
        return state.begun.first == batch.header.place.sequence ? true : nil
      }
      guard isMyTurn == true else { return }
      let queuedFromUs = MonotonicClock.nowUs
      try queue.append(encoded, wasEncoding: true)
      let nowUs = MonotonicClock.nowUs
      state.update { state in
        state.begun.removeFirst()
        state.interval.idleUs += beganUs - waitedFromUs
        state.interval.blockedUs += nowUs - queuedFromUs
        if effort != .off {
          state.interval.packingUs += endedUs - beganUs
          state.interval.processorUs += processorUs
        }
        state.note(encoded, effort, busyUs: endedUs - beganUs, nowUs: nowUs)
      }
    }
  }
}

extension EncoderPool.State {
  /// A batch is with the queue: what it cost, and a decision when one is due.
  fileprivate mutating func note(
    _ batch: PageBatch, _ effort: Effort, busyUs: UInt64, nowUs: UInt64
  ) {
    let wireBytes = UInt64(batch.wireByteCount)
    if effort != .off {
      self.busyUs += busyUs
      let pageBytes = UInt64(batch.header.rawPageCount * Page.size)
      controller.packed(effort, pageBytes: pageBytes, wireBytes: wireBytes, busyUs: busyUs)
    }
    interval.wireBytes += wireBytes
    interval.coveredBytes += UInt64(batch.header.runs.pageCount * Page.size)
    interval.elapsedUs = nowUs - intervalBeganUs
    guard interval.elapsedUs >= EffortController.intervalMs * 1000 else { return }
    controller.handle(interval)
    (interval, intervalBeganUs) = (EffortController.Interval(), nowUs)
  }
}
