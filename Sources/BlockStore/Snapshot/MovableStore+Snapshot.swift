import Crypto
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
      let hashes = try hashAll()
      guard
        let manifest = DiskManifest(
          byteCount: byteCount, generation: generation, hashes: hashes)
      else { throw MoveError("the disk \(name) has changed its size") }
      return manifest
    }
  }

  private func hashAll() throws(StoreError) -> [UInt8] {
    let buffer = PageBuffer(byteCount: Int(DiskManifest.partByteCount) * 16)
    var hashes: [UInt8] = []
    var place: UInt64 = 0
    while place < byteCount {
      let count = Int(min(byteCount - place, UInt64(buffer.byteCount)))
      // SAFETY: parts are bounds-checked; the buffer is this call's own.
      let bytes = unsafe buffer.part(0, count)
      if unsafe source.fetchAtOnce(at: place, into: bytes) != true {
        try unsafe source.fetch(at: place, into: bytes)
        source.forget(at: place, count: UInt64(count))
      }
      for start in stride(from: 0, to: count, by: Int(DiskManifest.partByteCount)) {
        let part = unsafe buffer.part(start, min(Int(DiskManifest.partByteCount), count - start))
        hashes += unsafe BackupSupply.hash(UnsafeRawBufferPointer(part))
      }
      place += UInt64(count)
    }
    return hashes
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
    guard let notes = notes.withLock({ $0 }),
      notes.generation == snapshot.manifest.generation, snapshot.manifest.byteCount == byteCount
    else {
      throw MoveError(
        "the manifest isn't of the last snapshot of \(name) that was taken through this server")
    }
    let supply = BackupSupply(snapshot, notes)
    supply.connect()
    return supply
  }
}
