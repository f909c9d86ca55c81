import HostIO
import Wire

extension SendQueue {
  /// What the queue's lock guards.
  struct State {
    var waiting: [PageBatch] = []
    var head = 0
    var window: SendWindow
    var bucket: TokenBucket?
    var pool: [PageBuffer] = []
    var counters = Counters()
    /// Sent and not known to be applied, by lane: sent again when the lane's connection breaks.
    var unconfirmed: [UInt16: [PageBatch]] = [:]
    /// Batches that are picked and still with the encoders.
    var encoding = 0
    /// Pages with contents of these and of those that wait.
    var queuedPages = 0
    /// Threads that encode; more batches than that wait for them.
    var encoderCount = Int.max
    var failure: RelayFailure?
    /// Scan and dirtied pages go over lanes of their own.
    var separatesScan = false
    /// Highest sequence that a lane took.
    var newestTaken: UInt64 = 0

    var depth: Int { waiting.count - head }

    /// The batch that a lane takes next: the oldest of its kind where the two are apart, and of the other while
    /// there is none.
    func next(lane: UInt16) -> Int? {
      guard depth > 0 else { return nil }
      guard separatesScan else { return head }
      let isScanLane = lane % 2 == 1
      return (head..<waiting.count).first { waiting[$0].isScan == isScanLane } ?? head
    }

    /// Lets go of a lane's batches that were applied, and keeps their buffers for others.
    mutating func confirm(_ lane: UInt16, through sequence: UInt64) {
      guard let batches = unconfirmed[lane] else { return }
      // A lane sends in rising order.
      let first = batches.firstIndex { $0.header.place.sequence > sequence } ?? batches.count
      guard first > 0 else { return }
      for batch in batches[..<first] {
        if let buffer = batch.buffer, pool.count < SendQueue.depthMax * 4 { pool.append(buffer) }
      }
      unconfirmed[lane] = Array(batches[first...])
    }
  }
}
