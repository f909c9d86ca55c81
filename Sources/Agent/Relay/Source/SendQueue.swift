import Base
import HostIO
import Wire

/// Between the thread that picks pages and the threads that feed the lanes: batches in order, the
/// window over all lanes, the bandwidth cap, and the pool of page buffers.
///
/// Bounded (I5): at most `depthMax` batches wait. What waits here has left the ledger, so a newer version
/// of such a page is sent besides; that is why it is little.
final class SendQueue: Sendable {
  /// Batches that may wait.
  static let depthMax = 8
  /// Pages of batches that may be sent past a full window, because a newer one went before them.
  private static let overtakenPagesMax = depthMax * BatchLimits.rawPagesMax

  private let state: Guarded<State>
  /// Most pages with contents that may be on their way.
  let pagesMax: Int
  /// This migration's part of the link; nil: no limit but its own.
  private let link: LinkShare?

  /// - Parameters:
  ///   - windowMax: most bytes on their way, as the destination allows.
  ///   - link: this migration's part of the link; nil: the link has no limit.
  init(windowMax: UInt64, bandwidth: ByteRate?, link: LinkShare? = nil) {
    self.link = link
    pagesMax = Self.pagesMax(windowMax: windowMax)
    state = Guarded(
      State(
        window: SendWindow(limitMax: windowMax),
        bucket: bandwidth.map { TokenBucket(rate: $0, nowUs: MonotonicClock.nowUs) }))
  }

  /// Most pages with contents that may be on their way under such a window, with those that are sent past it.
  static func pagesMax(windowMax: UInt64) -> Int {
    SendWindow.pagesMax(limitMax: windowMax) + overtakenPagesMax  // < 2^56
  }

  /// So many threads encode.
  func setEncoderCount(_ count: Int) { state.update { $0.encoderCount = count } }

  /// A batch is with the encoders, from where it comes by `append`.
  func encodingBegan(_ batch: PageBatch) {
    state.update { state in
      state.encoding += 1
      state.queuedPages += batch.header.rawPageCount
    }
  }

  /// Takes room for pages of zeros that were picked. Blocks while the destination has enough of them to write.
  func reserve(zeroPages: Int) throws(RelayFailure) {
    guard zeroPages > 0 else { return }
    let failure = state.wait { state -> RelayFailure?? in
      if let failure = state.failure { return .some(failure) }
      return state.window.reserve(zeroPages: UInt64(zeroPages)) ? .some(nil) : nil
    }
    if let failure = failure ?? nil { throw failure }
  }

  /// Appends a batch. Blocks while the queue is full.
  ///
  /// - Parameter wasEncoding: `encodingBegan` was called for it.
  func append(_ batch: PageBatch, wasEncoding: Bool = false) throws(RelayFailure) {
    let failure = state.wait { state -> RelayFailure?? in
      if let failure = state.failure { return .some(failure) }
      guard state.depth < Self.depthMax else { return nil }
      state.waiting.append(batch)
      if wasEncoding {
        state.encoding -= 1
      } else {
        state.queuedPages += batch.header.rawPageCount
      }
      return .some(nil)
    }
    if let failure = failure ?? nil { throw failure }
  }

  /// Whether scan and dirtied pages go over lanes of their own (TLM's mtx and dtx): odd and even ones.
  func separateScan(_ separates: Bool) { state.update { $0.separatesScan = separates } }

  enum Taken: Sendable {
    /// A batch, and how many microseconds to wait before sending it.
    case batch(PageBatch, delayUs: UInt64)
    /// `isInterrupted` said so.
    case interrupted
  }

  /// The next batch for a lane. Blocks while there is none or the window is full.
  ///
  /// - Parameter isInterrupted: asked on each change, see `wake`.
  func take(lane: UInt16, isInterrupted: () -> Bool) throws(RelayFailure) -> Taken {
    let taken = state.wait { state -> Result<Taken, RelayFailure>? in
      if let failure = state.failure { return .failure(failure) }
      if isInterrupted() { return .success(.interrupted) }
      guard let index = state.next(lane: lane) else {
        // Encoders that are busy limit what goes over, like a full window.
        if state.encoding > state.encoderCount { state.window.noteEncodersBusy() }
        return nil
      }
      let batch = state.waiting[index]
      let bytes = UInt64(batch.wireByteCount)
      // What overtook the oldest may wait for it at the destination, and fill the window meanwhile.
      let isOvertaken = batch.header.place.sequence < state.newestTaken
      let pageBytes = UInt64(batch.header.rawPageCount * Page.size)
      guard isOvertaken || state.window.admits(bytes, pageBytes: pageBytes) else {
        state.window.noteRefused(bytes)
        return nil
      }
      if index > state.head {
        // The others keep their order.
        state.waiting.insert(state.waiting.remove(at: index), at: state.head)
      }
      state.head += 1
      if state.head > 64, state.head * 2 > state.waiting.count {
        state.waiting.removeFirst(state.head)
        state.head = 0
      }
      state.newestTaken = max(state.newestTaken, batch.header.place.sequence)
      state.queuedPages -= batch.header.rawPageCount
      let now = MonotonicClock.nowUs
      state.window.sent(
        sequence: batch.header.place.sequence, bytes: bytes, pageBytes: pageBytes,
        zeroPages: UInt64(batch.header.zeroPageCount), nowMs: now / 1000)
      state.unconfirmed[lane, default: []].append(batch)
      state.counters.note(batch)
      return .success(.batch(batch, delayUs: state.bucket?.take(bytes, nowUs: now) ?? 0))
    }
    let result = try taken?.get() ?? .interrupted
    guard case .batch(let batch, let delayUs) = result else { return result }
    return .batch(batch, delayUs: max(delayUs, link?.take(UInt64(batch.wireByteCount)) ?? 0))
  }

  /// What a lane has to send again over a new connection, oldest first.
  func unconfirmed(lane: UInt16) -> [PageBatch] { state.read { $0.unconfirmed[lane] ?? [] } }

  /// The batch that went as this frame; nil: it is applied, or none did.
  func unconfirmed(sequence: UInt64) -> PageBatch? {
    state.read { state in
      for batches in state.unconfirmed.values {
        if let found = batches.first(where: { $0.header.place.sequence == sequence }) {
          return found
        }
      }
      return nil
    }
  }

  /// Whether anything depends on the lane's present connection.
  func owes(lane: UInt16) -> Bool { state.read { $0.unconfirmed[lane]?.isEmpty == false } }

  /// Has every waiting lane ask whether it is interrupted.
  func wake() { state.update { _ in } }

  /// Waits `ms`, or until the queue was failed.
  func pause(ms: UInt64) {
    _ = state.wait(timeoutMs: ms) { $0.failure != nil ? true : nil }
  }

  /// The same in microseconds, as limits of bandwidth ask for it: a slow link's may be minutes, and nobody who gives a
  /// migration up waits for them.
  func pause(us: UInt64) {
    if us >= 1000 { pause(ms: us / 1000) }
    let restUs = us % 1000
    if restUs > 0 { MonotonicClock.sleep(us: restUs) }
  }

  /// Why the queue gives and takes nothing any more.
  var failure: RelayFailure? { state.read { $0.failure } }

  /// A small numbered frame goes over the control lane.
  func announce(_ sequence: UInt64) { state.update { $0.window.announced(sequence: sequence) } }

  /// A numbered frame of `bytes` goes over the control lane, where a stream passes through unread.
  ///
  /// Blocks until all batches before it were sent and the window has room for it: the destination
  /// holds what its QEMU has not read yet, and no more than it agreed to. Then keeps the cap.
  func announce(_ sequence: UInt64, bytes: UInt64) throws(RelayFailure) {
    let admitted = state.wait { state -> Result<UInt64, RelayFailure>? in
      if let failure = state.failure { return .failure(failure) }
      guard state.depth == 0 else { return nil }
      guard state.window.admits(bytes) else {
        state.window.noteRefused(bytes)
        return nil
      }
      let now = MonotonicClock.nowUs
      state.window.sent(sequence: sequence, bytes: bytes, nowMs: now / 1000)
      return .success(state.bucket?.take(bytes, nowUs: now) ?? 0)
    }
    guard let ownUs = try admitted?.get() else { return }
    pause(us: max(ownUs, link?.take(bytes) ?? 0))
  }

  /// A buffer for a full batch, reused where possible.
  func takeBuffer() -> PageBuffer {
    state.update { $0.pool.popLast() }
      ?? PageBuffer(byteCount: BatchLimits.rawPagesMax * Page.size)
  }

  /// A buffer whose bytes are of no use any more.
  func giveBack(_ buffer: PageBuffer) {
    state.update { state in
      if state.pool.count < Self.depthMax * 4 { state.pool.append(buffer) }
    }
  }

  /// The destination applied everything through `sequence`.
  func acknowledged(through sequence: UInt64) throws(RelayFailure) {
    let known = state.update { state -> Bool in
      guard state.window.acknowledged(through: sequence, nowMs: MonotonicClock.nowMs) else {
        return false
      }
      for lane in state.unconfirmed.keys { state.confirm(lane, through: sequence) }
      return true
    }
    guard known else { throw .protocolViolation("acknowledged frame \(sequence), never sent") }
  }

  func fail(_ failure: RelayFailure) { state.update { $0.failure = $0.failure ?? failure } }

  /// Rate, window and counts, for progress and for the strategy.
  var snapshot: Flow {
    state.read { state in
      Flow(
        rate: state.window.rate, inFlight: state.window.inFlight,
        queued: state.depth + state.encoding,
        queuedBytes: UInt64(max(state.queuedPages, 0) * Page.size),
        applyingMs: state.window.applyingMs, counters: state.counters)
    }
  }
}
