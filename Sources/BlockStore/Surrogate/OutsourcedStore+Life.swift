import Base
import DiskStrategy
import Glibc
import HostIO
import Synchronization

/// How a disk comes to a surrogate, and how it is without one again.
extension OutsourcedStore {
  /// Behind the path of the map of moves.
  static let fileSuffix = ".surrogate"

  /// Begins to use a surrogate.
  ///
  /// - Parameters:
  ///   - path: of the file that says which blocks are there.
  ///   - identity: of the image.
  ///   - settle: waits until all calls that began before have returned.
  func begin(
    _ wish: SurrogateWish, _ link: SurrogateLink, path: String, identity: String,
    settle: () -> Void
  ) throws {
    guard let geometry else { throw MoveError("a disk of \(byteCount) bytes has no surrogate") }
    let size = min(link.byteCount, wish.byteCountMax ?? .max)
    let segmentCount = SurrogateIndex.segmentCount(byteCount: size)
    guard segmentCount >= SurrogateIndex.segmentsMin else {
      throw MoveError("\(size) bytes are too few for a surrogate")
    }
    guard !isInUse else { throw MoveError("the disk \(name) has a surrogate already") }
    while state.wait(timeoutMs: 1000, until: { $0.keeperCount == 0 ? true : nil }) == nil {}
    let key = "\(identity)\n\(link.place.name)\n\(link.log)"
    // The file first: who is killed in between leaves no log that nobody knows of.
    let file = try MapFile.make(path, geometry, key: key, filled: false)
    do throws(StoreError) {
      try link.begin()
    } catch {
      file.remove()
      throw error
    }
    state.update { state in
      // Calls of before still have their holds.
      let (holds, nextHold) = (state.holds, state.nextHold)
      state = OutsourcedState()
      (state.holds, state.nextHold) = (holds, nextHold)
      (state.link, state.file, state.mode) = (link, file, .passing)
      state.index = SurrogateIndex(
        blockCount: geometry.blockCount, segmentCount: segmentCount)
      state.filter = PopularityFilter(wish.popularity)
      state.pinned = PageBitmap(count: geometry.blockCount)
      state.keeperCount = 1
    }
    isActive.store(true, ordering: .sequentiallyConsistent)
    // A write that began before would miss those that it overlaps.
    settle()
    state.update { if $0.mode == .passing { $0.mode = .open } }
    startKeeper()
  }

  /// Takes up what an earlier server left; what is only in the surrogate goes back to the disk from now on.
  ///
  /// - Parameters:
  ///   - isWanted: false: the disk is elsewhere, with all of it.
  ///   - find: the place of a surrogate by its name.
  func revive(
    path: String, identity: String, isWanted: Bool, _ find: (String) throws -> SurrogatePlace
  ) throws {
    guard let geometry, let file = try MapFile.open(path, geometry) else { return }
    let parts = file.key.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 3, let log = UInt64(parts[2]) else {
      throw MoveError("\(path) says of no surrogate")
    }
    guard parts[0] == identity else {
      throw MoveError("\(path) is of another image; remove it if it is not wanted")
    }
    guard isWanted, !(0..<geometry.chunkCount).allSatisfy({ file[$0] == 0 }) else {
      // One that can't be cleared now is cleared by whoever wants to use it.
      if let place = try? find(parts[1]) { try? SurrogateLink.open(place, log: log).clear() }
      return file.remove()
    }
    guard !original.traits.isReadOnly else {
      throw MoveError(
        "the newest data of \(name) are in its surrogate \(parts[1]): serve it writable once")
    }
    let link: SurrogateLink
    do {
      link = try SurrogateLink.open(find(parts[1]), log: log)
    } catch {
      throw MoveError(
        "the newest data of \(name) are in its surrogate \(parts[1]), which can't be used: \(error)"
      )
    }
    var index = try SurrogateScan.run(link, geometry, file)
    let lost = try SurrogateScan.addLost(to: &index, geometry, file, log: link.log)
    if lost > 0 { note("\(name): the surrogate has lost what was written to \(lost) blocks") }
    let found = index
    state.update { state in
      state = OutsourcedState()
      (state.link, state.file, state.mode) = (link, file, .returning)
      state.index = found
      state.pinned = PageBitmap(count: geometry.blockCount)
      state.keeperCount = 1
      // The guest's flush has to tell it.
      state.hasLost = lost > 0
      // A record that was lost with this host's power was never flushed; the original has what was before it.
      for chunk in 0..<geometry.chunkCount { file[chunk] = found.outsourced.word(chunk) }
    }
    isActive.store(true, ordering: .sequentiallyConsistent)
    startKeeper()
  }

  /// Takes nothing new, and gives back what is only in the surrogate; returns at once.
  func giveBack() { state.update { $0.retreat(nil) } }

  /// The disk is elsewhere: nobody wants what is here any more.
  ///
  /// - Parameter settle: waits until all calls that began before have returned.
  func discard(settle: () -> Void) {
    guard isInUse else { return }
    settle()
    suspendKeeper()
    end()
  }

  /// The server ends; no call comes any more. What is only in the surrogate stays there, for the next one.
  func suspend() {
    guard isInUse else { return }
    suspendKeeper()
    let (link, file, count) = state.update { state in
      defer { (state.link, state.file) = (nil, nil) }
      return (state.link, state.file, state.index.outsourced.population)
    }
    guard let link else { return }
    if count > 0 {
      note(
        "\(name): the newest data of \(count) blocks are in \(link.place.name); serve the disk again"
      )
      try? file?.close(isClean: true)
      link.close()
    } else {
      link.clear()
      file?.remove()
    }
  }

  private func suspendKeeper() {
    state.update { $0.isSuspended = true }
    while state.wait(timeoutMs: 1000, until: { $0.keeperCount == 0 ? true : nil }) == nil {}
  }

  /// Forgets the surrogate; nothing is needed of it.
  func end() {
    guard let geometry else { return }
    // Not under a flush, which would find its connection closed.
    flushing.withLock { _ in
      // A crash from here on must not find bits of blocks whose newest content is the original's.
      let bits = state.read { $0.file }
      try? bits?.sync()
      let (link, file) = state.update { state in
        defer {
          (state.link, state.file, state.mode) = (nil, nil, .idle)
          state.index = SurrogateIndex(blockCount: geometry.blockCount, segmentCount: 0)
          (state.appendedCount, state.flushedCount, state.hasLost) = (0, 0, false)
        }
        return (state.link, state.file)
      }
      // In this order: a log that nobody knows of would keep the store from being used again.
      link?.clear()
      file?.remove()
    }
    isActive.store(false, ordering: .sequentiallyConsistent)
  }

  private func startKeeper() {
    _ = WorkerThread("surrogate") { [self] in
      keep()
      state.update { $0.keeperCount -= 1 }
    }
  }
}
