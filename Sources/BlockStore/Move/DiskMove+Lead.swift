import DiskStrategy
import Glibc
import HostIO
import NBD
import Synchronization

/// The thread that leads a move: connections, decisions, the end.
extension DiskMove {
  private static let tickUs: UInt64 = 5000
  /// The same while nothing is to be decided.
  private static let restUs: UInt64 = 50_000
  /// From the break of a connection to the next one, in microseconds.
  static let settleUs: UInt64 = 1_000_000
  /// How often what has arrived is put on stable storage over there, in microseconds.
  private static let checkpointUs: UInt64 = 1_000_000
  /// More than this has to be there before the guest's writes are made to wait, in blocks: 16 MiB.
  private static let unflushedMax = 4096
  /// The longest that the guest's writes ever wait for an end, in milliseconds.
  private static let freezeMsMax: UInt64 = 10_000

  /// Starts the threads of a move whose state says what to do. They end with it.
  ///
  /// - Parameter wasConnected: an earlier move of this server's had a connection. What a connection that has just
  ///   ended still owes may be carried out over there a little later, and must not come after what is sent now.
  func start(wasConnected: Bool, ended: @escaping @Sendable () -> Void) {
    let count = Self.senderCount + 1
    state.update { state in
      if wasConnected || state.file?.peer.isEmpty == false {
        state.nextDialUs = MonotonicClock.nowUs + Self.settleUs
      }
      state.stage = .moving
      state.threadCount += count
    }
    for number in 0..<Self.senderCount { thread("move-send-\(number)") { $0.sendAll() } }
    thread("move-lead") { move in
      move.lead()
      ended()
    }
  }

  /// Starts only what keeps a connection to a destination that is the disk.
  func startSwitched() {
    isRemote.store(true, ordering: .relaxed)
    state.update { state in
      state.nextDialUs = MonotonicClock.nowUs + Self.settleUs
      state.stage = .switched
      state.threadCount += 1
    }
    thread("move-lead") { $0.lead() }
  }

  func thread(_ name: String, _ body: @escaping @Sendable (DiskMove) -> Void) {
    _ = WorkerThread(name) { [self] in
      body(self)
      state.update { $0.threadCount -= 1 }
    }
  }

  /// Leads until the move is over.
  private func lead() {
    while true {
      let goesOn = state.read { state in state.stage.isMoving || state.stage.isSwitched }
      guard goesOn else { break }
      watchLink()
      decide()
      flushOverThere()
      let isBusy = state.read { $0.stage.isMoving && !$0.isPaused }
      MonotonicClock.sleep(us: isBusy ? Self.tickUs : Self.restUs)
    }
    isRemote.store(state.read { $0.phase == .switched }, ordering: .relaxed)
    // Senders that wait for an answer needn't any more.
    let link = state.update { state in
      defer { state.link = nil }
      return state.link
    }
    link?.close()
    state.read { $0.supply }?.close()
    state.read { $0.base }?.close()
  }

  // MARK: The end

  private func decide() {
    let nowUs = MonotonicClock.nowUs
    let flushes = state.update { state -> MoveLink? in
      guard state.stage.isMoving else { return nil }
      state.meter.note(
        nowMs: nowUs / 1000, sentBytes: state.arrivedBytes, neededBytes: state.map.neededByteCount)
      guard !state.isPaused else { return nil }
      if state.wish.ending == .wait { holdIfNear(&state) }
      let sample = MoveSample(
        nowMs: nowUs / 1000, neededBytes: state.map.neededByteCount,
        diskBytes: geometry.byteCount, roundCount: state.order.roundCount,
        bytesPerSecond: state.meter.bytesPerSecond, isConnected: state.link != nil)
      let decision = state.machine.look(sample)
      // Another device from here on: what the one before gave says nothing of it.
      if decision.readsTail, !state.decision.readsTail { state.meter.forget() }
      state.decision = decision
      yieldToGuest(&state, nowUs)
      isRemote.store(state.decision.writes == .mirror, ordering: .relaxed)
      if state.isFrozen { end(&state, nowUs) } else { freezeIfDue(&state, nowUs) }
      return flushIfDue(&state, nowUs)
    }
    if let flushes { thread("move-flush") { $0.flush(flushes) } }
    if state.read({ $0.stage.isSwitched }) { dropSurrogate() }
  }

  /// The copier gives way to the guest.
  private func yieldToGuest(_ state: inout MoveState, _ nowUs: UInt64) {
    isTimed.store(state.decision.yieldsToGuest, ordering: .relaxed)
    guard state.decision.yieldsToGuest else { return }
    state.guestPace.look(
      nowMs: nowUs / 1000,
      GuestPace.Totals(
        requests: guestRequests.load(ordering: .relaxed),
        latencyUs: guestUs.load(ordering: .relaxed), copiedBytes: state.copiedBytes))
    state.readPace.setRate(state.guestPace.bytesPerSecond)
  }

  /// Both sides are kept the same once they nearly are.
  private func holdIfNear(_ state: inout MoveState) {
    if state.decision.freezes { state.machine.hold() }
  }

  private func freezeIfDue(_ state: inout MoveState, _ nowUs: UInt64) {
    guard state.decision.freezes, state.wish.ending != .wait, state.link != nil else {
      return state.freezeWishUs = 0
    }
    if state.freezeWishUs == 0 { state.freezeWishUs = nowUs }
    guard
      state.map.unflushedCount <= Self.unflushedMax
        || nowUs - state.freezeWishUs > Self.checkpointUs
    else { return }
    (state.isFrozen, state.frozenUs) = (true, nowUs)
  }

  /// The guest's writes wait: ends the move, or lets them go on when it takes too long.
  func end(_ state: inout MoveState, _ nowUs: UInt64) {
    // Nobody wants an end any more.
    guard state.wish.ending != .wait else { return state.thaw() }
    guard state.writes.isEmpty, state.map.isSynced, state.map.sendingCount == 0,
      state.link != nil
    else {
      let limitMs = min(
        max(state.wish.pauseLimitMs, 50) << min(state.frozenCount, 8), Self.freezeMsMax)
      if nowUs - state.frozenUs > limitMs * 1000 {
        state.frozenCount += 1
        state.machine.freezeFailed(nowMs: nowUs / 1000)
        state.thaw()
      }
      return
    }
    if state.wish.ending == .switching {
      do throws(SystemError) {
        guard let file = state.file else { throw SystemError("keep its map", code: EIO) }
        // The guest writes there from now on: of the copy there nothing is known any more, also for the next server.
        state.base?.noteAll()
        try file.markSwitched()
      } catch {
        state.problem = "can't remember that the disk is elsewhere: \(error)"
        // What of it is on the medium nobody knows.
        state.file?.remove()
        state.file = nil
        state.isPaused = true
        return state.thaw()
      }
      state.stage = .switched
      isRemote.store(true, ordering: .relaxed)
    } else {
      // The copy goes to the guest, who writes to it: nothing is known of it any more.
      if state.wish.staysHere { state.base?.noteAll() }
      state.stage = .over(.copied)
      state.file?.remove()
      state.file = nil
    }
    state.pauseUs = MonotonicClock.nowUs - state.frozenUs
    state.thaw()
  }

  private func flushIfDue(_ state: inout MoveState, _ nowUs: UInt64) -> MoveLink? {
    guard let link = state.link, !state.isFlushing, state.stage.isMoving else { return nil }
    let isLast = state.isFrozen || state.freezeWishUs > 0
    guard isLast || nowUs - state.flushedUs >= Self.checkpointUs, state.map.beginFlush() else {
      return nil
    }
    (state.isFlushing, state.flushedUs) = (true, nowUs)
    state.threadCount += 1
    return link
  }

  /// The destination is the disk: what the guest changed there and doesn't flush itself is put on stable storage now
  /// and then, so that little is ever to be written again.
  private func flushOverThere() {
    let nowUs = MonotonicClock.nowUs
    guard unflushed.count > 0 else { return }
    let link = state.update { state -> MoveLink? in
      guard state.stage.isSwitched, let link = state.link, !state.isFlushing,
        nowUs - state.flushedUs >= Self.checkpointUs
      else { return nil }
      (state.isFlushing, state.flushedUs) = (true, nowUs)
      state.threadCount += 1
      return link
    }
    guard let link else { return }
    thread("move-flush") { move in
      // Where that fails, the guest's own flush tells it.
      do throws(StoreError) { try move.unflushed.flush(over: link) } catch {}
      move.state.update { $0.isFlushing = false }
    }
  }

  /// Of both sides: what was read here may be in the page cache alone, and a host that loses its power would come back with
  /// older content of a block that is remembered as the destination's. At once, for the guest may wait for it.
  private func flush(_ link: MoveLink) {
    let failure = Guarded<StoreError?>(nil)
    let here = WorkerThread("move-flush-here") { [source] in
      do throws(StoreError) { try source.flush() } catch { failure.update { $0 = error } }
    }
    var problem: StoreError?
    do throws(StoreError) { try link.flush() } catch { problem = error }
    here.join()
    let own = failure.read { $0 }
    state.update { state in
      state.isFlushing = false
      let isDone = problem == nil && own == nil && state.link?.id == link.id
      state.endFlush(isDone)
    }
    // A surrogate that failed gives back what it has; then the disk can be flushed again.
    if let own, !source.isInUse { stop("can't flush the disk: \(own)") }
    if let problem { judge(problem, link) }
  }
}
