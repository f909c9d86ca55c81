import Base
import Compaction
import HostIO
import Wire

/// A snapshot at the destination that pages of one migration are taken from.
///
/// Takes 16 bytes of memory for each stored page.
final class HeldSnapshot: Sendable {
  let file: SnapshotFile
  /// Of the stored pages, in order.
  private let keys: [VaultKey]
  private let filters: [UInt64]
  private let blocks: [String: Int]

  /// Memory that one with so many stored pages takes, in bytes.
  static func memoryBytes(storedPages: UInt64) -> UInt64 {
    min(storedPages, VaultLimits.pagesMax) * UInt64(VaultSegment.lookupByteCount)
  }

  /// How long reading which pages are there may take, in milliseconds: the source waits meanwhile.
  static let readMsMax: UInt64 = 10_000

  /// Reads which pages are there. Blocks.
  init(path: String, secret: VaultSecret? = nil) throws {
    let deadlineMs = MonotonicClock.nowMs + Self.readMsMax
    let file = try SnapshotFile(path: path, secret: secret)
    self.file = file
    var keys: [VaultKey] = []
    var filters: [UInt64] = []
    try file.lookups { found in
      guard MonotonicClock.nowMs < deadlineMs else { throw VaultError.slow(path: path) }
      for (key, filter) in found {
        keys.append(key)
        filters.append(filter)
      }
    }
    (self.keys, self.filters) = (keys, filters)
    var blocks: [String: Int] = [:]
    for (index, block) in file.head.blocks.enumerated() { blocks[block.name] = index }
    self.blocks = blocks
  }

  var id: VaultID { file.head.id }

  /// Copies a page as it was; false when it is not there or can't be read.
  ///
  /// - Parameter block: its name in QEMU's stream.
  func read(block: String, page: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
    guard let number = blocks[block], page < 1 << 48 else { return false }
    let key = VaultKey(block: number, page: page)
    let index = firstIndex(notBefore: key)
    guard index < keys.count, keys[index] == key else { return false }
    do { try unsafe file.read(UInt64(index), into: buffer) } catch { return false }
    return true
  }

  /// Names the pages that are there of a block, by its name in QEMU's stream, in order.
  func forEachPage(of block: String, _ visit: (UInt64) -> Void) {
    guard let number = blocks[block] else { return }
    var index = firstIndex(notBefore: VaultKey(block: number, page: 0))
    while index < keys.count, keys[index].block == number {
      visit(keys[index].page)
      index += 1
    }
  }

  private func firstIndex(notBefore key: VaultKey) -> Int {
    var (low, high) = (0, keys.count)
    while low < high {
      let middle = low + (high - low) / 2
      if keys[middle] < key { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// What the source is told of it, and of the others of `vault`: frame after frame, the last one empty.
  func tell(
    with vault: HeldVault? = nil, _ send: (SnapshotFilters) throws(RelayFailure) -> Void
  ) throws(RelayFailure) {
    var next = 0
    while next < keys.count {
      let first = keys[next]
      var filters: [UInt64?] = []
      while next < keys.count, keys[next].block == first.block,
        keys[next].page - first.page < UInt64(SnapshotFilters.pagesMax)
      {
        let place = Int(keys[next].page - first.page)
        filters += [UInt64?](repeating: nil, count: place - filters.count)
        filters.append(self.filters[next])
        next += 1
      }
      try send(
        SnapshotFilters(
          block: UInt16(truncatingIfNeeded: first.block),  // < blocksMax
          isLast: false, firstPage: first.page, filters: filters))
    }
    try vault?.tellOthers(from: file.head.blocks.count, send)
    try send(SnapshotFilters(block: 0, isLast: true, firstPage: 0, filters: []))
  }

  /// There is none to be used after all.
  static func tellNothing(over control: ControlLane) throws(RelayFailure) {
    var payload: [UInt8] = []
    SnapshotFilters(block: 0, isLast: true, firstPage: 0, filters: []).encode(into: &payload)
    try control.send(.snapshotFilters, payload)
  }

  /// Tells the source on a thread of its own, for as long as the lane takes it.
  func tell(over control: ControlLane, with vault: HeldVault? = nil) {
    _ = WorkerThread("gw-snapshot") { [self] in
      do throws(RelayFailure) {
        try tell(with: vault) { (filters) throws(RelayFailure) in
          var payload: [UInt8] = []
          filters.encode(into: &payload)
          try control.send(.snapshotFilters, payload)
        }
      } catch {
        // The lane is over, which the session hears from the lane itself.
      }
    }
  }
}
