public import DiskStrategy
import HostIO
import Synchronization

/// Snapshots of a disk in use: what each part of it held, and notes of what is written from then on.
extension MovableStore {
  /// Reads the whole disk. What is written meanwhile counts as changed since.
  public func snapshot() throws -> DiskManifest {
    try orders.withLock { _ in
      guard let mapPath, let geometry = DiskGeometry(byteCount: byteCount),
        byteCount <= DiskManifest.diskByteCountMax
      else { throw MoveError("the disk \(name) has no place for notes, or is too large for them") }
      guard move?.isElsewhere != true else {
        throw MoveError("the disk \(name) is at its destination: take the snapshot there")
      }
      try checkIsHere()
      try checkIsOwned()
      let generation = UInt64.random(in: 1 ... .max)
      let new = try ChangeNotes.make(
        mapPath + ChangeNotes.fileSuffix, geometry, identity: identity, generation: generation)
      let old = notes.withLock { notes in
        defer { notes = new }
        return notes
      }
      // They hear of no writes any more: a move that takes what they call unchanged from backups must not believe them.
      old?.close()
      hasNotes.store(true, ordering: .sequentiallyConsistent)
      // A write that began before isn't noted.
      calls.turn()
      // What only the page cache has, a host that loses its power would not come back with.
      try source.flush()
      let hashes = try hashAll()
      guard
        let manifest = DiskManifest(
          byteCount: byteCount, generation: generation, hashes: hashes)
      else { throw MoveError("the disk \(name) has changed its size") }
      return manifest
    }
  }

  /// The image was written to past this server, or is about to be, so that nothing was noted: the last snapshot counts no
  /// more, for the next server neither. Throws when that can't be remembered, or the disk moves.
  public func noteBypass() throws {
    try orders.withLock { _ in
      clearEndedMove()
      guard move == nil, !source.isInUse else {
        throw MoveError("the disk \(name) moves, or was moved away")
      }
      try forgetSnapshot()
    }
  }

  /// The caller has `orders`.
  func forgetSnapshot() throws {
    guard let old = notes.withLock({ $0 }) else { return }
    try old.remove()
    hasNotes.store(false, ordering: .sequentiallyConsistent)
    notes.withLock { $0 = nil }
    log("\(name): it was written to elsewhere, or will be: its last snapshot counts no more")
  }

  private func hashAll() throws(StoreError) -> [UInt8] {
    try unsafe DiskManifest.hashes(byteCount: byteCount) { place, target throws(StoreError) in
      if unsafe source.fetchAtOnce(at: place, into: target) == true { return }
      try unsafe source.fetch(at: place, into: target)
      source.forget(at: place, count: UInt64(target.count))
    }
  }

  /// The range is about to be written.
  func noteChange(_ offset: UInt64, _ count: UInt64) {
    guard hasNotes.load(ordering: .sequentiallyConsistent) else { return }
    notes.withLock { $0 }?.note(offset, count)
  }

  /// What a move gets from backups; nil: it isn't asked for.
  func supply(_ wish: MoveWish) throws -> BackupSupply? {
    guard let snapshot = wish.snapshot else {
      guard wish.method != .snapmig else {
        throw MoveError("snapmig needs a manifest and a backup")
      }
      return nil
    }
    guard wish.method == .snapmig else { throw MoveError("backups are for snapmig alone") }
    let supply = BackupSupply(snapshot, try notes(of: snapshot.manifest))
    supply.connect()
    return supply
  }

  /// What was written since a snapshot.
  func notes(of manifest: DiskManifest) throws(MoveError) -> ChangeNotes {
    guard let notes = notes.withLock({ $0 }), notes.generation == manifest.generation,
      manifest.byteCount == byteCount
    else {
      throw MoveError(
        "the manifest isn't of the last snapshot of \(name) that was taken through this server, or the disk was attached or "
          + "detached since: take one anew")
    }
    return notes
  }

  /// What a move leaves out because the destination has it; nil: it isn't asked for.
  ///
  /// - Parameter probe: a connection to the destination.
  func base(
    _ wish: MoveWish, _ geometry: DiskGeometry, _ mapPath: String, _ uri: String,
    _ probe: RemoteStore
  ) throws -> (any OlderCopy)? {
    let path = mapPath + BaseCopy.fileSuffix
    guard wish.method == .incremental || (wish.base == nil && wish.bitmap == nil) else {
      throw MoveError("the manifest of a copy, or a bitmap, is for incremental alone")
    }
    guard let wanted = wish.base else {
      let copy = try wish.bitmap.map { try bitmap($0, geometry, probe) }
      guard copy != nil || wish.method != .incremental else {
        throw MoveError("incremental needs the manifest of the destination's copy, or a bitmap")
      }
      try BaseCopy.spoil(path, geometry, identity: identity, uri: uri)
      return copy
    }
    guard wish.bitmap == nil else {
      throw MoveError("a copy has its manifest, or a bitmap, and not both")
    }
    var notes: ChangeNotes?
    if let own = wanted.own { notes = try self.notes(of: own) }
    let base = try BaseCopy.open(
      path, geometry, identity: identity, uri: uri, wanted, notes,
      goesOn: move?.status.destination == uri)
    do {
      try base.checkSample(over: probe)
    } catch {
      base.close()
      throw error
    }
    return base
  }

  /// What the bitmap says now; what is written before it is read once more (`readBitmap`) is in it.
  private func bitmap(
    _ wish: BitmapWish, _ geometry: DiskGeometry, _ probe: RemoteStore
  ) throws -> BitmapCopy {
    let copy = try BitmapCopy(wish, geometry, source)
    try copy.load()
    try copy.checkSample(over: probe)
    return copy
  }

  /// The move has the copy, and hears of every write from now on: reads the bitmap of those before.
  func readBitmap(_ copy: (any OlderCopy)?) {
    guard let copy = copy as? BitmapCopy else { return }
    // Writes that began before the move had it.
    calls.turn()
    do throws(StoreError) {
      try copy.load()
    } catch {
      log("\(name): the bitmap can't be read any more, all is sent: \(error)")
      copy.noteAll()
    }
  }
}
