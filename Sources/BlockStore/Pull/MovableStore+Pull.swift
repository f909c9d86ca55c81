import DiskStrategy
import HostIO
import NBD
import Synchronization

/// Pulls of a disk: begun, told what to do, ended.
extension MovableStore {
  /// Behind the description of an export whose disk is being pulled.
  static let pulledNote = " (being pulled)"
  /// What may stand behind an image's identity.
  static let exportNotes = [movingNote, elsewhereNote, pulledNote]

  private var pulled: PulledStore? { source.original as? PulledStore }

  /// The pull that is under way, or the last one; nil: there was none.
  public var pullStatus: DiskPullStatus? { pulled?.status }

  /// Whether the image alone isn't the disk, because some of it has yet to be fetched.
  var isPulled: Bool {
    guard let pull = pulled?.pull else { return false }
    // One that is done is taken off a moment after it says so.
    return pull.status.phase != .done
  }

  /// Throws when a disk of which some is elsewhere can't be used for what is wanted.
  func checkIsHere() throws(MoveError) {
    guard isPulled else { return }
    throw MoveError(
      "the disk \(name) isn't whole: it is being pulled (godwit block status), or that was cancelled"
    )
  }

  /// Makes the disk what the source has: what isn't here is fetched when it is asked for, and in the background.
  public func pull(from source: MoveDestination, _ wish: DiskPullWish) throws {
    try orders.withLock { _ in
      guard let pulled, let path = pulled.path else {
        throw MoveError(
          "the disk \(name) can't be pulled: it has to be a raw image with a place for its map (godwit block serve "
            + "--maps for a block device)")
      }
      if let pull = pulled.pull, !pull.status.phase.isOver {
        throw MoveError("the disk \(name) is being pulled already, from \(pull.status.source)")
      }
      clearEndedMove()
      guard move == nil, !self.source.isInUse else {
        throw MoveError("the disk \(name) is moving, or was moved away")
      }
      guard !pulled.traits.isReadOnly else {
        throw MoveError("the disk \(name) is served read-only: nothing could be stored")
      }
      guard let geometry = DiskGeometry(byteCount: byteCount) else {
        throw MoveError("a disk of \(byteCount) bytes can't be pulled")
      }
      let wasCancelled = pulled.pull?.status.phase == .cancelled
      guard try wish.overwrites || wasCancelled || pulled.isEmpty() else {
        throw MoveError(
          "the image of \(name) holds something already; --overwrite if it is not wanted")
      }
      let link = try DiskPull.connect(source, geometry, pulled.limits, peer: nil)
      do {
        try begin(pulled, path, geometry, source, link, wish)
      } catch {
        link.close()
        throw error
      }
    }
  }

  private func begin(
    _ pulled: PulledStore, _ path: String, _ geometry: DiskGeometry, _ source: MoveDestination,
    _ link: RemoteStore, _ wish: DiskPullWish
  ) throws {
    // For snapshots all of it changes now.
    for place in stride(from: 0, to: byteCount, by: Int(Self.notedByteCount)) {
      noteChange(place, min(Self.notedByteCount, byteCount - place))
    }
    let file = try PullFile.make(
      path, geometry, identity: pulled.identity, uri: source.uri,
      peer: ExportIdentity.told(by: link),
      bytesPerSecond: wish.bytesPerSecond)
    let pull = DiskPull(
      name: name, store: pulled.image, PullState(source, file, map: PullMap(geometry)),
      pulled.limits, log: log)
    pulled.begin(pull, over: link)
  }

  /// Bytes that are noted at once: no more parts than the activity log has room for.
  private static let notedByteCount: UInt64 = 1 << 30

  /// Nothing is fetched from now on but what clients ask for. Throws `MoveError` where nothing is
  /// being pulled.
  public func pausePull() throws { try currentPull().pause() }
  /// Throws `MoveError` where nothing is being pulled. Clears what `DiskPullStatus.problem` said.
  public func resumePull() throws { try currentPull().resume() }

  /// Returns when nothing of the pull is left; every later request fails until the disk is pulled again.
  public func cancelPull() throws {
    try orders.withLock { _ in
      let pull = try currentPull()
      try pull.cancel()
      pull.waitForThreads()
    }
  }

  private func currentPull() throws -> DiskPull {
    guard let pull = pulled?.pull else {
      throw MoveError("the disk \(name) isn't being pulled")
    }
    return pull
  }

  /// The server ends; no request comes any more.
  func suspendPull() { pulled?.pull?.suspend() }
}

extension PulledStore {
  /// Whether the image is one hole.
  fileprivate func isEmpty() throws(StoreError) -> Bool {
    var place: UInt64 = 0
    while place < byteCount {
      let extents = try image.status(at: place, count: byteCount - place, extentsMax: 64)
      guard extents.allSatisfy({ $0.flags & NBDExtent.zero != 0 }) else { return false }
      place += extents.reduce(0) { $0 + $1.length }
    }
    return true
  }
}
