import DiskStrategy
import HostIO
public import NBD
import Synchronization

/// A disk that can be moved while it is used. Without a move it is what is underneath.
public final class MovableStore: DiskStore {
  /// Finds the destination of a move that an earlier server began.
  public typealias Resolve = @Sendable (_ uri: String) throws -> MoveDestination
  /// Finds the surrogate of a move that an earlier server began.
  public typealias FindSurrogate = @Sendable (_ name: String) throws -> SurrogatePlace

  public let byteCount: UInt64
  let name: String
  let source: OutsourcedStore
  let ownTraits: DiskTraits
  let slowTraits: DiskTraits
  let mapPath: String?
  let identity: String
  let log: @Sendable (String) -> Void

  let calls = Turnstile()
  let hasRoute = Atomic(false)
  let route = Mutex<DiskMove?>(nil)
  /// The last move that is over, for who asks.
  let last = Mutex<MoveStatus?>(nil)
  /// What was written since the last snapshot.
  let notes = Mutex<ChangeNotes?>(nil)
  let hasNotes = Atomic(false)
  /// One order at a time.
  let orders = Mutex(())

  /// - Parameters:
  ///   - mapPath: where the map of a move is kept; nil: nowhere, and then the disk can't be moved.
  ///   - identity: of the image; a map is for one image.
  ///   - trustsDestination: a destination that the disk has moved to is the same, whatever it says of itself now.
  /// Throws when the map that is there can't be used, or says that the disk is elsewhere and
  /// `resolve` doesn't know where, or when some of the disk's data are in a surrogate that can't be used.
  public init(
    _ original: any DiskStore, name: String, identity: String, mapPath: String?,
    resolve: Resolve, findSurrogate: FindSurrogate = { throw MoveError("nobody knows \($0)") },
    trustsDestination: Bool = false,
    log: @escaping @Sendable (String) -> Void
  ) throws {
    source = OutsourcedStore(original, name: name, log: log)
    (self.name, self.mapPath, self.identity) = (name, mapPath, identity)
    (self.log, byteCount, ownTraits) = (log, original.byteCount, original.traits)
    var slow = original.traits
    slow.isPrompt = false
    slowTraits = slow
    guard let mapPath, let geometry = DiskGeometry(byteCount: original.byteCount) else { return }
    let since = try ChangeNotes.open(
      mapPath + ChangeNotes.fileSuffix, geometry, identity: identity)
    notes.withLock { $0 = since }
    hasNotes.store(since != nil, ordering: .sequentiallyConsistent)
    let moved = try MapFile.open(mapPath, geometry)
    try source.revive(
      path: mapPath + OutsourcedStore.fileSuffix, identity: identity,
      isWanted: moved?.state != .switched, findSurrogate)
    guard let file = moved else { return }
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
      move.state.update { state in
        (state.destination, state.trustsDestination) = (destination, trustsDestination)
      }
      move.startSwitched()
    }
    route.withLock { $0 = move }
    hasRoute.store(true, ordering: .sequentiallyConsistent)
  }

  static func key(_ identity: String, _ uri: String) -> String { identity + "\n" + uri }

  static func split(_ key: String) -> (identity: String, uri: String) {
    let parts = key.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
    return (String(parts.first ?? ""), parts.count == 2 ? String(parts[1]) : "")
  }

  var move: DiskMove? {
    guard hasRoute.load(ordering: .sequentiallyConsistent) else { return nil }
    return route.withLock { $0 }
  }

  public var traits: DiskTraits {
    if source.isInUse { return slowTraits }
    return move?.isRemote.load(ordering: .relaxed) == true ? slowTraits : ownTraits
  }
}

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
    noteChange(offset, UInt64(bytes.count))
    if let move { return try unsafe move.write(bytes, at: offset, durable: durable) }
    try unsafe source.write(bytes, at: offset, durable: durable)
  }

  public func zero(
    at offset: UInt64, count: UInt64, _ options: ZeroOptions
  ) throws(StoreError) {
    let entered = calls.enter()
    defer { calls.leave(entered) }
    try Self.eachPart(offset, count) { place, part throws(StoreError) in
      noteChange(place, part)
      guard let move else { return try source.zero(at: place, count: part, options) }
      try move.change(at: place, count: part) { store throws(StoreError) in
        try store.zero(at: place, count: part, options)
      } remotely: { link throws(StoreError) in
        try move.unflushed.zero(at: place, count: part, options, over: link)
      }
    }
  }

  public func trim(at offset: UInt64, count: UInt64) throws(StoreError) {
    let entered = calls.enter()
    defer { calls.leave(entered) }
    try Self.eachPart(offset, count) { place, part throws(StoreError) in
      noteChange(place, part)
      guard let move else { return try source.trim(at: place, count: part) }
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
    try move.remote { link throws(StoreError) in try move.unflushed.flush(over: link) }
  }

  public func cache(at offset: UInt64, count: UInt64) { source.cache(at: offset, count: count) }

  public func mayWait(at offset: UInt64, count: UInt64, writes: Bool) -> Bool {
    source.mayWait(at: offset, count: count, writes: writes)
      || move?.mayWait(writes: writes) == true
  }

  public var mayWaitForFlush: Bool { move?.isElsewhere == true }

  public var isAtRest: Bool { move == nil && source.isAtRest }

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
