import DiskStrategy
import HostIO
import Synchronization

/// The moves of a disk: begun, told what to do, ended.
extension MovableStore {
  /// The move that is under way, was interrupted, or was the last one; nil: there was none.
  public var moveStatus: MoveStatus? {
    if let move { return move.status }
    var status = last.withLock { $0 }
    status?.surrogate = source.surrogateStatus
    return status
  }

  /// Begins a move, or goes on with an interrupted one to the same destination.
  public func move(to destination: MoveDestination, _ wish: MoveWish) throws {
    let (_, geometry) = try orders.withLock { _ in try place() }
    // Networks take their time; other orders don't wait for them.
    let probe = try destination.connect(silence: .destination)
    defer { probe.close() }
    try DiskMove.check(probe, for: source, geometry, isSwitching: wish.ending == .switching)
    let supply = try supply(wish)
    do {
      try orders.withLock { _ in try begin(destination, wish, probe, supply) }
    } catch {
      supply?.close()
      throw error
    }
  }

  /// Where the map of a move goes that can be begun now, and what it is of.
  private func place() throws -> (mapPath: String, geometry: DiskGeometry) {
    guard let mapPath else {
      throw MoveError("there is nowhere to keep the map of a move (godwit block serve --maps)")
    }
    try checkIsHere()
    clearEndedMove()
    guard let geometry = DiskGeometry(byteCount: byteCount) else {
      throw MoveError("a disk of \(byteCount) bytes can't be moved")
    }
    guard !source.traits.isReadOnly else {
      throw MoveError("the disk \(name) is served read-only: copy it")
    }
    if let open = move?.status, open.phase != .interrupted {
      throw MoveError("the disk \(name) is \(open.phase) already (\(open.destination))")
    }
    try checkIsOwned()
    return (mapPath, geometry)
  }

  /// What can be refused is refused before anything changes, also what has become so since it was first looked at.
  private func begin(
    _ destination: MoveDestination, _ wish: MoveWish, _ probe: RemoteStore,
    _ supply: BackupSupply?
  ) throws {
    let (mapPath, geometry) = try place()
    if let snapshot = wish.snapshot { _ = try notes(of: snapshot.manifest) }
    let surrogate = try openSurrogate(wish)
    let move: DiskMove
    var base: (any OlderCopy)?
    do {
      base = try self.base(wish, geometry, mapPath, destination.uri, probe)
      move = try prepare(geometry, mapPath, destination)
    } catch {
      surrogate?.clear()
      base?.close()
      throw error
    }
    let copy = base
    move.state.update { state in
      state.destination = destination
      (state.wish, state.destinationName) = (wish, destination.uri)
      state.machine = MoveMachine(wish.method, pauseLimitMs: wish.pauseLimitMs)
      state.pace = SendPace(bytesPerSecond: wish.bytesPerSecond)
      (state.order, state.meter, state.decision) = (CopyOrder(), MoveMeter(), MoveDecision())
      (state.isPaused, state.problem, state.frozenCount) = (false, nil, 0)
      (state.guestPace, state.deferred, state.supply) = (GuestPace(), nil, supply)
      (state.base, state.sparesAhead) = (copy, !source.traits.isPrompt)
      state.tail = TailPlace()
    }
    readBitmap(copy)
    move.start(wasConnected: last.withLock { $0 != nil }) { [weak self] in
      self?.moveEnded(move)
    }
    guard let wanted = wish.surrogate else { return }
    move.useSurrogate(
      wanted, surrogate, path: mapPath + OutsourcedStore.fileSuffix, identity: identity
    ) { [weak self] in self?.calls.turn() }
  }

  /// The move's state, with its map; writes are noted in it from now on.
  private func prepare(
    _ geometry: DiskGeometry, _ mapPath: String, _ destination: MoveDestination
  ) throws -> DiskMove {
    if let open = move {
      // What was noted counts for the destination that it was noted for.
      if open.status.destination == destination.uri { return open }
      let file = try MapFile.make(mapPath, geometry, key: Self.key(identity, destination.uri))
      open.state.update { state in
        state.file = file
        state.map = BlockMap(geometry)
        state.log = ActivityLog()
      }
      return open
    }
    let file = try MapFile.make(mapPath, geometry, key: Self.key(identity, destination.uri))
    let state = MoveState(
      geometry, map: BlockMap(geometry), file: file, destinationName: destination.uri)
    let new = DiskMove(name: name, source: source, state, log: log)
    route.withLock { route in
      route = new
      hasRoute.store(true, ordering: .sequentiallyConsistent)
    }
    // Writes that began before know nothing of it; nothing is read for the move until they have ended.
    calls.turn()
    return new
  }

  /// What can be refused of a surrogate is refused before anything changes; nil: none is wanted, or the disk has yet
  /// to get back what is in the one before.
  private func openSurrogate(_ wish: MoveWish) throws -> SurrogateLink? {
    guard let wanted = wish.surrogate else {
      guard wish.method != .waio else { throw MoveError("waio needs a surrogate") }
      return nil
    }
    guard wish.method == .waio else { throw MoveError("a surrogate is for waio alone") }
    guard !source.isInUse else { return nil }
    return try SurrogateLink.make(wanted.place)
  }

  func moveEnded(_ ended: DiskMove) {
    // Without a move its data have no reason to be elsewhere.
    source.giveBack()
    let status = ended.status
    guard status.phase.isOver, status.phase != .switched else { return }
    last.withLock { $0 = status }
    route.withLock { route in
      // The next one may have begun already, whose order needn't wait for this.
      guard route === ended else { return }
      hasRoute.store(false, ordering: .sequentiallyConsistent)
      route = nil
    }
    // The next move begins when nobody uses this one any more.
    calls.turn()
  }

  /// A move says that it is over a moment before its last threads are: what begins only without one waits for them. The
  /// caller has `orders`.
  func clearEndedMove() {
    guard let move, move.status.phase.isOver, move.status.phase != .switched else { return }
    move.waitForThreads()
    moveEnded(move)
  }

  /// Throws `MoveError` where no move is under way. The guest's writes wait for nothing while it is
  /// paused, and are remembered.
  public func pauseMove() throws { try current().pause() }
  /// Throws `MoveError` where no move is under way, as after a restart of the server. Clears what
  /// `MoveStatus.problem` said.
  public func resumeMove() throws { try current().resume() }
  /// Says what shall happen at the end, in place of the wish. Throws `MoveError` where no move is
  /// under way, or for `switching` where the disk can't be switched: it moves with its guest, or
  /// the destination takes no requests as small.
  public func finishMove(_ ending: MoveEnding) throws { try current().finish(ending) }

  /// Returns when nothing of the move is left; the source is the disk.
  public func cancelMove() throws {
    try orders.withLock { _ in
      let move = try current()
      let wasInterrupted = move.status.phase == .interrupted
      try move.cancel()
      move.waitForThreads()
      if wasInterrupted { moveEnded(move) }
    }
  }

  /// The server ends; no request comes any more.
  public func suspendMove() {
    move?.suspend()
    source.suspend()
    suspendPull()
    notes.withLock { $0 }?.close()
  }

  private func current() throws -> DiskMove {
    guard let move else { throw MoveError("the disk \(name) isn't moving") }
    return move
  }
}

extension MovableStore {
  /// Behind the description of an export whose disk moves, and of one whose disk is elsewhere already.
  public static let movingNote = " (moving)"
  static let elsewhereNote = " (moved to another server)"

  /// Why the image alone may not be the disk now, as a note for people; nil: it is.
  public var moveNote: String? {
    if isPulled { return Self.pulledNote }
    // The image alone isn't the disk while a surrogate has some of it.
    guard let move else { return source.isInUse ? Self.movingNote : nil }
    switch move.status.phase {
    case .switched: return Self.elsewhereNote
    case .copied, .cancelled: return source.isInUse ? Self.movingNote : nil
    case .connecting, .copying, .mirroring, .finishing, .paused, .interrupted:
      return Self.movingNote
    }
  }
}
