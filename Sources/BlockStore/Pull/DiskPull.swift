import DiskStrategy
import HostIO
import NBD
import Synchronization

/// The pull of one disk: what the guest's requests and the copier's threads share.
///
/// What is here is the disk, and what isn't here its source has; which is which says the map. Nothing is
/// answered to the guest before the map has it.
final class DiskPull: Sendable {
  /// How long things take at most.
  struct Limits: Sendable {
    /// A request waits so long while nothing of what it needs comes, in milliseconds: as long as QEMU waits for a
    /// server. As long as something comes it waits: over a slow link a long request takes its time.
    var patienceMs: UInt64 = 30_000
    /// A source that owes answers and sends nothing for longer is given up, in milliseconds.
    var silenceMs: UInt64 = 10_000
    /// Between two attempts to reach the source, in microseconds.
    var redialUs: UInt64 = 2_000_000
    /// How often what has come is put on stable storage, in microseconds.
    var checkpointUs: UInt64 = 1_000_000
    /// How long a server that is started waits for the source, in milliseconds.
    var openingMs: UInt64 = 10_000
  }

  let name: String
  /// The image.
  let store: any DiskStore
  let geometry: DiskGeometry
  let limits: Limits
  let log: @Sendable (String) -> Void
  let state: Guarded<PullState>
  /// One flush at a time that makes blocks stable: who comes second has to know that the first is done.
  let flushing = Mutex(())
  /// Where the guest was last, and when, in microseconds.
  let guest = Mutex<(blocks: Range<Int>, nowUs: UInt64)?>(nil)
  private let hasWritten: Atomic<Bool>

  init(
    name: String, store: any DiskStore, _ state: sending PullState, _ limits: Limits,
    log: @escaping @Sendable (String) -> Void
  ) {
    (self.name, self.store, self.limits, self.log) = (name, store, limits, log)
    geometry = state.geometry
    hasWritten = Atomic(state.isWritten)
    self.state = Guarded(state)
  }

  var status: DiskPullStatus {
    state.read { state in
      let mean = state.faults > 0 ? state.faultUs / state.faults : nil
      return DiskPullStatus(
        disk: name, source: state.source.uri, phase: state.phase, diskBytes: geometry.byteCount,
        missingBytes: state.map.missingByteCount, fetchedBytes: state.fetchedBytes,
        zeroBytes: state.zeroBytes, faults: state.faults, faultMeanUs: mean,
        faultMaxUs: mean == nil ? nil : state.faultUsMax, failedFaults: state.failedFaults,
        bytesPerSecond: state.meter.bytesPerSecond,
        etaMs: state.isPulling && !state.isPaused ? state.meter.etaMs : nil,
        connectionCount: state.connectionCount, isWritten: state.isWritten,
        problem: state.problem ?? state.sourceProblem)
    }
  }

  // MARK: Orders

  func pause() throws(MoveError) {
    try order { state in
      state.isPaused = true
      state.meter.forget()
    }
  }

  func resume() throws(MoveError) {
    try order { state in
      (state.isPaused, state.problem) = (false, nil)
      state.meter.forget()
    }
  }

  /// Nothing here was changed, so the source is the disk; what is here is forgotten.
  func cancel() throws(MoveError) {
    try order { state throws(MoveError) in
      guard !state.isWritten else {
        throw MoveError(
          "the disk \(self.name) was written here, so its source isn't the disk any more: let the pull come to its "
            + "end (godwit block resume), and move the disk back then if it is wanted there")
      }
      state.stage = .over(.cancelled)
      state.file?.remove()
      state.file = nil
    }
  }

  private func order(_ body: (inout PullState) throws(MoveError) -> Void) throws(MoveError) {
    try state.update { state throws(MoveError) in
      guard state.isPulling else { throw MoveError("the disk \(self.name) isn't being pulled") }
      try body(&state)
    }
  }

  /// Something that a person has to look at: nothing is fetched any more but what is asked for.
  func stop(_ problem: String) {
    let isNew = state.update { state in
      guard state.isPulling, state.problem == nil else { return false }
      (state.isPaused, state.problem) = (true, problem)
      state.meter.forget()
      return true
    }
    if isNew { log("\(name): \(problem)") }
  }

  /// The server ends; the next one goes on.
  func suspend() {
    state.update { state in if state.isPulling { state.stage = .suspended } }
    waitForThreads()
    // What fails here is fetched again.
    do throws(StoreError) { try flush() } catch {}
    state.update { $0.file = nil }
  }

  /// Waits until nobody brings anything any more, for the guest or unasked: what a request still stores when the pull
  /// is over would come over what the next pull has brought.
  func waitForThreads() {
    let isOver = { (state: inout PullState) -> Bool? in
      state.threadCount == 0 && state.fetchCount == 0 ? true : nil
    }
    while state.wait(timeoutMs: 1000, until: isOver) == nil {}
  }

  // MARK: Flushes

  /// As `DiskStore.flush`; what has come is covered by it, and the map knows.
  func flush() throws(StoreError) {
    // Under the lock no flush is half done that has to do with blocks of ours.
    let isPlain = flushing.withLock { _ in state.read { !$0.map.hasFresh } }
    if isPlain { return try store.flush() }
    try flushing.withLock { _ throws(StoreError) in try flushFresh() }
  }

  private func flushFresh() throws(StoreError) {
    guard state.update({ $0.map.beginFlush() }) else { return try store.flush() }
    do throws(StoreError) {
      try store.flush()
      try recordStable()
    } catch {
      state.update { state in
        state.map.endFlush(false)
        state.file?.distrust()
      }
      throw error
    }
    state.update { $0.map.endFlush(true) }
  }

  private func recordStable() throws(StoreError) {
    let file = state.update { state -> PullFile? in
      for chunk in state.map.flushingChunks {
        state.file?.setStable(chunk, state.map.stableWord(chunk))
      }
      return state.file
    }
    do throws(SystemError) {
      try file?.sync()
    } catch {
      throw StoreError(.inputOutput, "the map of this disk's pull can't be kept")
    }
  }

  // MARK: Changes

  /// Remembers, before anything is written, that the source isn't the disk any more.
  func noteWritten() throws(StoreError) {
    guard !hasWritten.load(ordering: .acquiring) else { return }
    try state.update { state throws(StoreError) in
      if case .over(.cancelled) = state.stage { throw PullState.cancelled }
      guard !state.isWritten else { return }
      do throws(SystemError) {
        try state.file?.markWritten()
      } catch {
        throw StoreError(.inputOutput, "the map of this disk's pull can't be kept")
      }
      state.isWritten = true
    }
    hasWritten.store(true, ordering: .releasing)
  }
}
