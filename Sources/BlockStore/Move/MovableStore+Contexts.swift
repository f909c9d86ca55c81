import Base
import DiskStrategy
import HostIO
public import NBD
import Synchronization

/// What is known of the disk's blocks, for clients that ask (contexts of Godwit's own).
extension MovableStore {
  public var contexts: [String] {
    let own = source.contexts + [NBDExtent.needed, NBDExtent.changed, NBDExtent.outsourced]
    return source.original is PulledStore ? own + [NBDExtent.missing] : own
  }

  public func status(
    of context: String, at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    let told: [NBDExtent]?
    switch context {
    case NBDExtent.needed:
      told = move?.neededExtents(at: offset, count: count, extentsMax: extentsMax)
    case NBDExtent.changed:
      told = notes.withLock { $0 }?.extents(at: offset, count: count, extentsMax: extentsMax)
    case NBDExtent.outsourced:
      told = source.extents(at: offset, count: count, extentsMax: extentsMax)
    case NBDExtent.missing:
      told = (source.original as? PulledStore)?.pull?.missingExtents(
        at: offset, count: count, extentsMax: extentsMax)
    case NBDExtent.allocation:
      return try status(at: offset, count: count, extentsMax: extentsMax)
    default:
      guard move?.isElsewhere != true else {
        throw StoreError(.invalid, "the disk is at its destination")
      }
      return try source.status(of: context, at: offset, count: count, extentsMax: extentsMax)
    }
    return told ?? BlockExtents.untold(count)
  }
}

extension DiskMove {
  /// nil: the move is over.
  fileprivate func neededExtents(
    at offset: UInt64, count: UInt64, extentsMax: Int
  ) -> [NBDExtent]? {
    state.read { state in
      switch state.stage {
      case .switched, .over: return nil
      case .idle, .moving: break
      }
      let map = state.map
      return BlockExtents.list(geometry, at: offset, count: count, extentsMax: extentsMax) {
        let needed = map.needed.word($0)
        return (needed, map.openWord($0) & ~needed)
      }
    }
  }
}

extension ChangeNotes {
  /// nil: they can't be kept any more, so everything counts as changed.
  fileprivate func extents(at offset: UInt64, count: UInt64, extentsMax: Int) -> [NBDExtent]? {
    changedWords { words in
      BlockExtents.list(geometry, at: offset, count: count, extentsMax: extentsMax) {
        (words($0), 0)
      }
    }
  }
}

extension OutsourcedStore {
  /// nil: there is no surrogate.
  fileprivate func extents(at offset: UInt64, count: UInt64, extentsMax: Int) -> [NBDExtent]? {
    guard isInUse, let geometry else { return nil }
    return state.read { state in
      guard state.mode != .idle else { return nil }
      let outsourced = state.index.outsourced
      return BlockExtents.list(geometry, at: offset, count: count, extentsMax: extentsMax) {
        (outsourced.word($0), 0)
      }
    }
  }
}

extension DiskPull {
  /// nil: the pull is over.
  fileprivate func missingExtents(
    at offset: UInt64, count: UInt64, extentsMax: Int
  ) -> [NBDExtent]? {
    state.read { state in
      if case .over = state.stage { return nil }
      let map = state.map
      return BlockExtents.list(map.geometry, at: offset, count: count, extentsMax: extentsMax) {
        (map.missing.word($0), map.unflushedWord($0))
      }
    }
  }
}
