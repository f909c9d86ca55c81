import DiskStrategy
import HostIO
public import NBD
import Synchronization

/// A disk that can be moved while it is used. Without a move it is what is underneath.
public final class MovableStore: DiskStore {
  /// Finds the destination of a move that an earlier server began.
  public typealias Resolve = @Sendable (_ uri: String) throws -> MoveDestination

  public let byteCount: UInt64
  private let name: String
  private let source: any DiskStore
  private let ownTraits: DiskTraits
  private let slowTraits: DiskTraits
  private let mapPath: String?
  private let identity: String
  private let log: @Sendable (String) -> Void

  private let calls = Turnstile()
  private let hasRoute = Atomic(false)
  private let route = Mutex<DiskMove?>(nil)
  /// The last move that is over, for who asks.
  private let last = Mutex<MoveStatus?>(nil)
  /// One order at a time.
  private let orders = Mutex(())

  /// - Parameters:
  ///   - mapPath: where the map of a move is kept; nil: nowhere, and then the disk can't be moved.
  ///   - identity: of the image; a map is for one image.
  /// Throws when the map that is there can't be used, or says that the disk is elsewhere and
  /// `resolve` doesn't know where.
  public init(
    _ source: any DiskStore, name: String, identity: String, mapPath: String?,
    resolve: Resolve, log: @escaping @Sendable (String) -> Void
  ) throws {
    (self.source, self.name, self.mapPath, self.identity) = (source, name, mapPath, identity)
    (self.log, byteCount, ownTraits) = (log, source.byteCount, source.traits)
    var slow = source.traits
    slow.isPrompt = false
    slowTraits = slow
    guard let mapPath, let geometry = DiskGeometry(byteCount: source.byteCount),
      let file = try MapFile.open(mapPath, geometry)
    else { return }
    let (known, uri) = Self.split(file.key)
    guard known == identity else {
      throw MoveError("\(mapPath) is the map of another image; remove it if it is not wanted")
    }
    let map = try file.load()
    let state = MoveState(geometry, map: map, file: file, destinationName: uri)
    let isSwitched = file.state == .switched
    let move = DiskMove(name: name, source: source, state, log: log)
    if isSwitched {
      let destination = try resolve(uri)
      move.state.update { $0.destination = destination }
      move.startSwitched()
    }
    route.withLock { $0 = move }
    hasRoute.store(true, ordering: .sequentiallyConsistent)
  }

  private static func key(_ identity: String, _ uri: String) -> String { identity + "\n" + uri }

  private static func split(_ key: String) -> (identity: String, uri: String) {
    let parts = key.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
    return (String(parts.first ?? ""), parts.count == 2 ? String(parts[1]) : "")
  }

  private var move: DiskMove? {
    guard hasRoute.load(ordering: .sequentiallyConsistent) else { return nil }
    return route.withLock { $0 }
  }

  public var traits: DiskTraits {
    move?.isRemote.load(ordering: .relaxed) == true ? slowTraits : ownTraits
  }
}

// MARK: Moves

extension MovableStore {
  /// The move that is under way, was interrupted, or was the last one; nil: there was none.
  public var moveStatus: MoveStatus? { move?.status ?? last.withLock { $0 } }

  /// Begins a move, or goes on with an interrupted one to the same destination.
  public func move(to destination: MoveDestination, _ wish: MoveWish) throws {
    try orders.withLock { _ in
      guard let mapPath else {
        throw MoveError("there is nowhere to keep the map of a move (godwit block serve --maps)")
      }
      guard let geometry = DiskGeometry(byteCount: byteCount) else {
        throw MoveError("a disk of \(byteCount) bytes can't be moved")
      }
      guard !source.traits.isReadOnly else {
        throw MoveError("the disk \(name) is served read-only: copy it")
      }
      // What can be refused is refused before anything changes.
      let probe = try RemoteStore(
        over: destination.dial(), exportName: destination.exportName, isReadOnly: false)
      defer { probe.close() }
      try DiskMove.check(
        probe, for: source, geometry, isSwitching: wish.ending == .switching)
      let move = try prepare(geometry, mapPath, destination)
      move.state.update { state in
        state.destination = destination
        (state.wish, state.destinationName) = (wish, destination.uri)
        state.machine = MoveMachine(wish.method, pauseLimitMs: wish.pauseLimitMs)
        state.pace = SendPace(bytesPerSecond: wish.bytesPerSecond)
        (state.order, state.meter, state.decision) = (CopyOrder(), MoveMeter(), MoveDecision())
        (state.isPaused, state.problem, state.frozenCount) = (false, nil, 0)
      }
      move.start { [weak self] in self?.moveEnded(move) }
    }
  }

  /// The move's state, with its map; writes are noted in it from now on.
  private func prepare(
    _ geometry: DiskGeometry, _ mapPath: String, _ destination: MoveDestination
  ) throws -> DiskMove {
    if let open = move {
      let status = open.status
      guard status.phase == .interrupted else {
        throw MoveError("the disk \(name) is \(status.phase) already (\(status.destination))")
      }
      // What was noted counts for the destination that it was noted for.
      if status.destination == destination.uri { return open }
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
    route.withLock { $0 = new }
    hasRoute.store(true, ordering: .sequentiallyConsistent)
    // Writes that began before know nothing of it; nothing is read for the move until they have ended.
    calls.turn()
    return new
  }

  private func moveEnded(_ ended: DiskMove) {
    let status = ended.status
    guard status.phase.isOver, status.phase != .switched else { return }
    last.withLock { $0 = status }
    hasRoute.store(false, ordering: .sequentiallyConsistent)
    route.withLock { $0 = nil }
    // The next move begins when nobody uses this one any more.
    calls.turn()
  }

  public func pauseMove() throws { try current().pause() }
  public func resumeMove() throws { try current().resume() }
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
  public func suspendMove() { move?.suspend() }

  private func current() throws -> DiskMove {
    guard let move else { throw MoveError("the disk \(name) isn't moving") }
    return move
  }
}

// MARK: Requests

extension MovableStore {
  public func read(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    let entered = calls.enter()
    defer { calls.leave(entered) }
    if let move { return try unsafe move.read(at: offset, into: target) }
    try unsafe source.read(at: offset, into: target)
  }

  public func readAtOnce(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) -> Bool? {
    let entered = calls.enter()
    defer { calls.leave(entered) }
    if let move { return unsafe move.readAtOnce(at: offset, into: target) }
    return unsafe source.readAtOnce(at: offset, into: target)
  }

  public func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool
  ) throws(StoreError) {
    let entered = calls.enter()
    defer { calls.leave(entered) }
    if let move { return try unsafe move.write(bytes, at: offset, durable: durable) }
    try unsafe source.write(bytes, at: offset, durable: durable)
  }

  public func zero(
    at offset: UInt64, count: UInt64, _ options: ZeroOptions
  ) throws(StoreError) {
    let entered = calls.enter()
    defer { calls.leave(entered) }
    guard let move else { return try source.zero(at: offset, count: count, options) }
    try Self.eachPart(offset, count) { place, part throws(StoreError) in
      try move.change(at: place, count: part) { store throws(StoreError) in
        try store.zero(at: place, count: part, options)
      } remotely: { link throws(StoreError) in
        try link.makeZero(at: place, count: part, options)
      }
    }
  }

  public func trim(at offset: UInt64, count: UInt64) throws(StoreError) {
    let entered = calls.enter()
    defer { calls.leave(entered) }
    guard let move else { return try source.trim(at: offset, count: count) }
    try Self.eachPart(offset, count) { place, part throws(StoreError) in
      try move.change(at: place, count: part) { store throws(StoreError) in
        try store.trim(at: place, count: part)
      } remotely: { link throws(StoreError) in
        // It was a hint.
        if link.store.traits.canTrim { try link.store.trim(at: place, count: part) }
      }
    }
  }

  /// Bytes of one change: no more parts than the activity log has room for.
  private static let changeMax: UInt64 = 1 << 30

  private static func eachPart(
    _ offset: UInt64, _ count: UInt64, _ body: (UInt64, UInt64) throws(StoreError) -> Void
  ) throws(StoreError) {
    var done: UInt64 = 0
    while done < count {
      let part = min(count - done, changeMax)
      try body(offset + done, part)
      done += part
    }
  }

  public func flush() throws(StoreError) {
    let entered = calls.enter()
    defer { calls.leave(entered) }
    guard let move, move.isElsewhere else { return try source.flush() }
    try move.remote { link throws(StoreError) in try link.flush() }
  }

  public func cache(at offset: UInt64, count: UInt64) { source.cache(at: offset, count: count) }

  public func status(
    at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    guard let move, move.isElsewhere else {
      return try source.status(at: offset, count: count, extentsMax: extentsMax)
    }
    return try move.remote { link throws(StoreError) in
      try link.store.status(at: offset, count: count, extentsMax: extentsMax)
    }
  }
}

extension MovableStore {
  /// Behind the description of an export whose disk moves, and of one whose disk is elsewhere already.
  public static let movingNote = " (moving)"
  static let elsewhereNote = " (moved to another server)"

  var moveNote: String? {
    guard let move else { return nil }
    switch move.status.phase {
    case .switched: return Self.elsewhereNote
    case .copied, .cancelled: return nil
    case .connecting, .copying, .mirroring, .finishing, .paused, .interrupted:
      return Self.movingNote
    }
  }
}
