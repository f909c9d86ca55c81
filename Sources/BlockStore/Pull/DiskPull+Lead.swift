import Base
import DiskStrategy
import HostIO
import NBD

/// The thread that leads a pull: connections, what has come put on stable storage, the end.
extension DiskPull {
  private static let tickUs: UInt64 = 20_000

  /// Starts the threads. They end with the pull, or when the server does.
  ///
  /// - Parameters:
  ///   - link: a connection that is good.
  ///   - ended: the pull is over.
  func start(_ link: RemoteStore, ended: @escaping @Sendable () -> Void) {
    state.update { state in
      (state.link, state.connectionCount, state.isSettled) = (link, 1, true)
      state.flushedUs = MonotonicClock.nowUs
      state.threadCount += PullTerms.runsMax + 1
    }
    for number in 0..<PullTerms.runsMax { thread("pull-copy-\(number)") { $0.copy() } }
    thread("pull-lead") { pull in
      pull.lead()
      ended()
    }
  }

  private func thread(_ name: String, _ body: @escaping @Sendable (DiskPull) -> Void) {
    _ = WorkerThread(name) { [self] in
      body(self)
      state.update { $0.threadCount -= 1 }
    }
  }

  private func lead() {
    while state.read({ $0.isPulling }) {
      watchLink()
      checkpoint()
      note()
      if state.read({ $0.map.missing.population == 0 && $0.problem == nil }) { finish() }
      MonotonicClock.sleep(us: Self.tickUs)
    }
    // Who waits for an answer needn't any more.
    let link = state.update { state in
      defer { state.link = nil }
      return state.link
    }
    link?.close()
  }

  private func note() {
    let nowMs = MonotonicClock.nowMs
    state.update { state in
      guard !state.isPaused else { return }
      state.meter.note(
        nowMs: nowMs, sentBytes: state.fetchedBytes + state.zeroBytes,
        neededBytes: state.map.missingByteCount)
    }
  }

  // MARK: The connection

  private func watchLink() {
    let nowUs = MonotonicClock.nowUs
    let lost = state.update { state -> RemoteStore? in
      guard let link = state.link, link.isBroken else { return nil }
      state.link = nil
      state.meter.forget()
      state.sourceProblem = link.silence?.description ?? PullState.unreachable.message
      // One that breaks at once, again and again, isn't dialled more often for that.
      state.nextDialUs = state.dialedUs + limits.redialUs
      return link
    }
    if let lost {
      lost.close()
      log("\(name): the connection to \(status.source) broke; it is made anew")
    }
    let source = state.update { state -> MoveDestination? in
      guard state.isPulling, state.link == nil, !state.isDialing, nowUs >= state.nextDialUs else {
        return nil
      }
      (state.isDialing, state.dialedUs) = (true, nowUs)
      state.threadCount += 1
      return state.source
    }
    guard let source else { return }
    // It may take as long as the network wants.
    thread("pull-dial") { $0.dial(source) }
  }

  private func dial(_ source: MoveDestination) {
    let made: Result<RemoteStore, any Error> = Result {
      try Self.connect(source, geometry, limits, peer: state.read { $0.peer })
    }
    state.update { state in
      state.isDialing = false
      switch made {
      case .success(let link):
        guard state.isPulling else { return link.close() }
        (state.link, state.sourceProblem) = (link, nil)
        state.connectionCount += 1
      case .failure(let error):
        state.sourceProblem = "\(error)"
        state.nextDialUs = MonotonicClock.nowUs + limits.redialUs
      }
    }
  }

  /// A connection to an export that can be the source.
  ///
  /// - Parameter peer: what the export has to say of itself; nil: anything. Empty: it said nothing, and is believed.
  static func connect(
    _ source: MoveDestination, _ geometry: DiskGeometry, _ limits: Limits, peer: String?
  ) throws -> RemoteStore {
    // It is never asked to flush.
    let store = try source.connect(
      silence: SilenceLimit(
        server: "the source", answerMs: limits.silenceMs, flushMs: limits.silenceMs))
    do throws(MoveError) {
      try check(store, geometry, peer: peer)
    } catch {
      store.close()
      throw error
    }
    return store
  }

  private static func check(
    _ store: RemoteStore, _ geometry: DiskGeometry, peer: String?
  ) throws(MoveError) {
    guard store.byteCount == geometry.byteCount else {
      throw MoveError(
        "the source has \(store.byteCount) bytes, the image \(geometry.byteCount): they have to be the same"
      )
    }
    guard store.traits.blockSizes.minimum <= UInt32(DiskGeometry.blockByteCount),
      store.traits.blockSizes.maximum >= UInt32(DiskGeometry.chunkByteCount)
    else { throw MoveError("the source takes only other sizes of requests") }
    guard let peer, !peer.isEmpty else { return }
    let told = ExportIdentity.told(by: store)
    guard ExportIdentity.isSame(peer, told) else {
      throw MoveError(
        "the source is another disk now: \(told.isEmpty ? "unnamed" : told), not \(peer)")
    }
  }

  // MARK: Stable storage

  private func checkpoint() {
    let nowUs = MonotonicClock.nowUs
    let isDue = state.update { state in
      guard state.map.hasFresh, !state.isFlushing, state.problem == nil,
        nowUs - min(state.flushedUs, nowUs) >= limits.checkpointUs
      else { return false }
      (state.isFlushing, state.flushedUs) = (true, nowUs)
      state.threadCount += 1
      return true
    }
    guard isDue else { return }
    thread("pull-flush") { pull in
      do throws(StoreError) { try pull.flush() } catch { pull.stop("the image: \(error)") }
      pull.state.update { $0.isFlushing = false }
    }
  }

  /// Everything is here: the source is let go once that is on stable storage.
  private func finish() {
    do throws(StoreError) {
      try flush()
    } catch {
      return stop("the image: \(error)")
    }
    state.update { state in
      guard state.isPulling, state.map.missing.population == 0, !state.map.hasFresh else { return }
      state.stage = .over(.done)
      state.file?.remove()
      state.file = nil
    }
  }
}
