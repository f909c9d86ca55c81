import DiskStrategy
import HostIO
import NBD

/// The connection of a move: watched, given up, made anew.
extension DiskMove {
  func watchLink() {
    let nowUs = MonotonicClock.nowUs
    let lost = state.update { state -> MoveLink? in
      guard let link = state.link else { return nil }
      guard link.isBroken || link.holdsGuest(nowUs, heldSinceUs: state.heldSinceUs) else {
        return nil
      }
      state.link = nil
      state.heldSinceUs = 0
      state.map.loseUnflushed()
      state.meter.forget()
      state.thaw()
      return link
    }
    if let lost {
      lost.close()
      // What the other end, or the network, has of it must be over before anything newer goes there. Servers of ours see to
      // that themselves (`DiskServer.takeOver`).
      let closedUs = MonotonicClock.nowUs
      state.update { state in
        state.dialWaitUs = Self.settleUs
        state.nextDialUs = closedUs + Self.settleUs
      }
      log("\(name): the connection to the destination broke; it is made anew")
    }
    let destination = state.update { state -> MoveDestination? in
      guard state.link == nil, !state.isDialing, !state.isPaused,
        MonotonicClock.nowUs >= state.nextDialUs
      else { return nil }
      state.isDialing = state.destination != nil
      if state.isDialing { state.threadCount += 1 }
      return state.destination
    }
    guard let destination else { return }
    // It may take as long as the network wants.
    thread("move-dial") { $0.dial(destination) }
  }

  private func dial(_ destination: MoveDestination) {
    let made = Result { try connect(destination) }
    let isDoubted = state.update { state -> Bool in
      state.isDialing = false
      switch made {
      case .success(let (link, sample)):
        guard state.stage.isMoving || state.stage.isSwitched else {
          link.close()
          return false
        }
        state.link = link
        let isOther = !state.meet(ExportIdentity.told(by: link.store))
        state.dialWaitUs = 0
        if !state.isPaused { state.problem = nil }
        return !state.take(sample) || isOther
      case .failure:
        state.dialWaitUs = min(max(state.dialWaitUs, 50_000) * 2, 2_000_000)
        state.nextDialUs = MonotonicClock.nowUs + state.dialWaitUs
        return false
      }
    }
    if isDoubted { log("\(name): the destination isn't what it was; everything is sent again") }
    guard case .failure(let error) = made else { return }
    if let error = error as? MoveError { return refuse(error.description) }
    state.update { state in
      if state.stage.isMoving, !state.isPaused { state.problem = "\(error)" }
    }
  }

  /// A connection to what may be gone on with, and what was found there.
  private func connect(
    _ destination: MoveDestination
  ) throws -> (link: MoveLink, sample: DestinationSample) {
    let link = MoveLink(
      state.update { state in
        state.connectionCount += 1
        return state.connectionCount
      }, try destination.connect(silence: .destination, moves: true))
    do {
      let isSwitching = state.read { $0.wish.ending == .switching }
      try Self.check(link.store, for: source, geometry, isSwitching: isSwitching)
      try checkIsDisk(link.store)
      let sample = try isElsewhere ? DestinationSample() : compare(link.store)
      try unflushed.again(over: link)
      return (link, sample)
    } catch {
      link.close()
      throw error
    }
  }

  /// The guest's requests go to no other disk than to the one that has its data.
  private func checkIsDisk(_ store: RemoteStore) throws(MoveError) {
    let known = state.read { state in
      state.stage.isSwitched && !state.trustsDestination ? state.file?.peer ?? "" : ""
    }
    let told = ExportIdentity.told(by: store)
    guard known.isEmpty || ExportIdentity.isSame(ExportIdentity.plain(known), told) else {
      throw MoveError(
        "the destination is another disk now: \(told.isEmpty ? "unnamed" : told), not \(known)")
    }
  }

  /// What a person has to look at. A destination that is the disk may become that again, and is dialled on.
  private func refuse(_ problem: String) {
    guard isElsewhere else { return stop(problem) }
    let isNew = state.update { state in
      guard state.problem != problem else { return false }
      state.problem = problem
      return true
    }
    if isNew { log("\(name): \(problem)") }
  }

  /// Whether the export can be the disk's destination.
  static func check(
    _ store: RemoteStore, for source: any DiskStore, _ geometry: DiskGeometry, isSwitching: Bool
  ) throws(MoveError) {
    let (traits, own) = (store.traits, source.traits)
    guard !traits.isReadOnly else { throw MoveError("the destination is read-only") }
    guard store.byteCount >= geometry.byteCount else {
      throw MoveError(
        "the destination has \(store.byteCount) bytes, the disk \(geometry.byteCount)")
    }
    let least = traits.blockSizes.minimum
    guard least <= UInt32(DiskGeometry.blockByteCount),
      geometry.byteCount.isMultiple(of: UInt64(least)),
      traits.blockSizes.maximum >= UInt32(1 << 20)
    else { throw MoveError("the destination takes only other sizes of requests") }
    guard !isSwitching || least <= own.blockSizes.minimum else {
      throw MoveError(
        "the destination takes no requests below \(least) bytes, and the disk's clients send them")
    }
  }
}
