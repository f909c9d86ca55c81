import Base
import HostIO
import Testing
import Wire

@testable import Agent

@Suite struct SendQueueTests {
  private func batch(_ sequence: UInt64, isScan: Bool, rawPages: UInt32 = 0) -> PageBatch {
    let run = PageRun(
      block: 0, pageClass: rawPages > 0 ? .raw : .zero, firstPage: sequence * 1000,
      count: max(rawPages, 1))
    return PageBatch(
      header: BatchHeader(place: SequencedHeader(sequence: sequence, after: 0), runs: [run]),
      buffer: nil, isScan: isScan)
  }

  /// The next batch's sequence for a lane; nil: none may go.
  private func taken(_ queue: SendQueue, lane: UInt16) throws -> UInt64? {
    // A lane that finds nothing waits until somebody wakes it.
    let isOver = Guarded(false)
    _ = WorkerThread("wake") {
      while isOver.wait(timeoutMs: 2, until: { $0 ? true : nil }) == nil { queue.wake() }
    }
    defer { isOver.update { $0 = true } }
    var looked = false
    let taken = try queue.take(lane: lane) {
      // Asked before each look: the second time there was nothing.
      defer { looked = true }
      return looked
    }
    guard case .batch(let batch, _) = taken else { return nil }
    return batch.header.place.sequence
  }

  @Test func lanesShareEverythingInOrder() throws {
    let queue = SendQueue(windowMax: 64 << 20, bandwidth: nil)
    for sequence in 1...4 as ClosedRange<UInt64> {
      try queue.append(batch(sequence, isScan: sequence % 2 == 1))
    }
    #expect(try (1...4).map { try taken(queue, lane: $0) } == [1, 2, 3, 4])
  }

  /// What waits counts by its pages with contents, with the encoders or behind them.
  @Test func whatWaitsIsCountedInPages() throws {
    let queue = SendQueue(windowMax: 64 << 20, bandwidth: nil)
    let encoded = batch(2, isScan: true, rawPages: 5)
    try queue.append(batch(1, isScan: true, rawPages: 3))
    queue.encodingBegan(encoded)
    try queue.append(batch(3, isScan: true))
    #expect(queue.snapshot.queued == 3 && queue.snapshot.queuedBytes == 8 << 12)
    try queue.append(encoded, wasEncoding: true)
    #expect(try taken(queue, lane: 1) == 1)
    #expect(queue.snapshot.queued == 2 && queue.snapshot.queuedBytes == 5 << 12)
    for _ in 0..<2 { #expect(try taken(queue, lane: 1) != nil) }
    #expect(queue.snapshot.queued == 0 && queue.snapshot.queuedBytes == 0)
  }

  /// Of centuries, here; it returns.
  @Test(.timeLimit(.minutes(1))) func aWaitForBandwidthEndsWithTheMigration() {
    let queue = SendQueue(windowMax: 64 << 20, bandwidth: nil)
    let isOver = Guarded(false)
    let lane = WorkerThread("lane") {
      queue.pause(us: .max)
      isOver.update { $0 = true }
    }
    queue.fail(.stopped)
    lane.join()
    #expect(isOver.read { $0 })
  }

  @Test func scanAndDirtiedPagesHaveLanesOfTheirOwn() throws {
    let queue = SendQueue(windowMax: 64 << 20, bandwidth: nil)
    queue.separateScan(true)
    for (sequence, isScan) in [(1, true), (2, true), (3, false), (4, false), (5, true)] {
      try queue.append(batch(UInt64(sequence), isScan: isScan))
    }
    #expect(try taken(queue, lane: 2) == 3)
    #expect(try taken(queue, lane: 1) == 1)
    #expect(try taken(queue, lane: 4) == 4)
    // None of its own is left: the lane helps the others.
    #expect(try taken(queue, lane: 2) == 2)
    #expect(try taken(queue, lane: 3) == 5)
    // Whatever order they went in, the destination's word is understood.
    for sequence in 1...5 as ClosedRange<UInt64> { try queue.acknowledged(through: sequence) }
    #expect(queue.snapshot.inFlight == 0)
    #expect(throws: RelayFailure.self) { try queue.acknowledged(through: 6) }
  }

  /// Batches that overtook one may wait for it at the destination: it goes although the window is full.
  @Test func anOvertakenBatchIsNotLockedOut() throws {
    let queue = SendQueue(windowMax: SendWindow.limitMin, bandwidth: nil)
    queue.separateScan(true)
    let most = UInt32(BatchLimits.rawPagesMax)
    let fit = SendWindow.limitMin / UInt64(BatchLimits.rawPagesMax * Page.size)
    try queue.append(batch(1, isScan: true, rawPages: most))
    for sequence in 2...fit {
      try queue.append(batch(sequence, isScan: false, rawPages: most))
      #expect(try taken(queue, lane: 2) == sequence)
    }
    try queue.append(batch(fit + 1, isScan: false, rawPages: most))
    #expect(try taken(queue, lane: 2) == nil)
    #expect(try taken(queue, lane: 1) == 1)
    #expect(try taken(queue, lane: 1) == nil)
  }
}
