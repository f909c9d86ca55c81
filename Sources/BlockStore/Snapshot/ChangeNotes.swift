import Base
import DiskStrategy
import HostIO

/// Which blocks of a disk were perhaps written since a snapshot, in a file that survives the server as the map of
/// a move does (`MapFile`).
final class ChangeNotes: Sendable {
  /// Behind the path of the map of moves.
  static let fileSuffix = ".since"

  private struct State: Sendable {
    var map: BlockMap
    /// nil: it could not be kept, so everything counts as changed.
    var file: MapFile?
    var log = ActivityLog()
  }

  /// Of the snapshot.
  let generation: UInt64
  let geometry: DiskGeometry
  private let state: Guarded<State>

  private init(_ generation: UInt64, _ map: BlockMap, _ file: MapFile) {
    (self.generation, geometry) = (generation, map.geometry)
    state = Guarded(State(map: map, file: file))
  }

  /// Begins notes in place of those of an earlier snapshot.
  static func make(
    _ path: String, _ geometry: DiskGeometry, identity: String, generation: UInt64
  ) throws(SystemError) -> ChangeNotes {
    let file = try MapFile.make(
      path, geometry, key: "\(identity)\nsince \(generation)", filled: false)
    return ChangeNotes(generation, BlockMap(geometry, filled: false), file)
  }

  /// Those that an earlier server made; nil: there are none.
  static func open(
    _ path: String, _ geometry: DiskGeometry, identity: String
  ) throws -> ChangeNotes? {
    guard let file = try MapFile.open(path, geometry) else { return nil }
    let prefix = "\(identity)\nsince "
    guard file.key.hasPrefix(prefix), let generation = UInt64(file.key.dropFirst(prefix.count))
    else { throw MoveError("\(path) is of another image; remove it if it is not wanted") }
    return ChangeNotes(generation, try file.load(), file)
  }

  /// The range is about to be written.
  func note(_ offset: UInt64, _ count: UInt64) {
    let blocks = geometry.touched(at: offset, count: count)
    guard !blocks.isEmpty else { return }
    state.update { state in
      guard let file = state.file, !state.map.isOpen(blocks) else { return }
      let change = state.log.touch(geometry.bytes(of: blocks))
      do throws(SystemError) {
        if change == .replaced { try file.sync() }
        if change != .none {
          file.keep(state.log)
          try file.sync()
        }
      } catch {
        file.remove()
        return state.file = nil
      }
      state.map.note(blocks)
      for chunk in (blocks.lowerBound >> 6)...((blocks.upperBound - 1) >> 6) {
        file[chunk] = state.map.openWord(chunk)
      }
    }
  }

  /// Whether the blocks are as they were.
  func isUnchanged(_ blocks: Range<Int>) -> Bool {
    state.read { state in
      state.file != nil && !blocks.contains { state.map.needed[$0] }
    }
  }

  /// Says which of a chunk's blocks were perhaps written, the lowest in the lowest bit; nil: that is no longer known.
  func changedWords<R>(_ body: ((Int) -> UInt64) -> R) -> R? {
    state.read { state in
      guard state.file != nil else { return nil }
      let needed = state.map.needed
      return body { needed.word($0) }
    }
  }

  /// They say nothing any more, also to the next server. Throws when that can't be remembered.
  func remove() throws(SystemError) {
    try state.update { state throws(SystemError) in
      guard let file = state.file else { return }
      // For where its name can't be taken away.
      file.fill()
      try file.sync()
      file.remove()
      state.file = nil
    }
  }

  /// The server ends.
  func close() {
    state.update { state in
      try? state.file?.close(isClean: true)
      state.file = nil
    }
  }
}
