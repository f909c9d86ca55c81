import Base
import DiskStrategy
import Glibc
import HostIO
import NBD
import Synchronization

/// An older copy of the disk, of which a dirty bitmap says what was written since.
public struct BitmapWish: Sendable {
  /// Of the image's bitmap, which its store tells of.
  public var name: String
  /// Parts outside the bitmap that are compared with the disk before anything is left out.
  public var sampleCount = 64
  /// Which parts those are.
  public var seed: UInt64
  /// Every part is compared before it is left out.
  public var verifiesAll = false

  public init(name: String, seed: UInt64) { (self.name, self.seed) = (name, seed) }
}

/// What of an older copy the destination still has, by a dirty bitmap that has recorded since the copy was made.
///
/// What is outside the bitmap nobody has written since, so it is the same here and there whatever was sent meanwhile: nothing
/// has to be remembered from one move to the next. The bitmap is read once, when all writes are noted: what
/// is written later counts as changed by that.
final class BitmapCopy: OlderCopy {
  let geometry: DiskGeometry
  private let wish: BitmapWish
  private let source: any DiskStore
  private let changed: Mutex<PageBitmap>
  private let refusedParts = Atomic<UInt64>(0)

  var verifiesAll: Bool { wish.verifiesAll }
  var refusals: UInt64 { refusedParts.load(ordering: .relaxed) }

  /// - Parameter source: the disk, which tells of the bitmap.
  init(_ wish: BitmapWish, _ geometry: DiskGeometry, _ source: any DiskStore) throws(MoveError) {
    (self.wish, self.geometry, self.source) = (wish, geometry, source)
    let partCount = (geometry.blockCount + Self.partBlocks - 1) / Self.partBlocks
    changed = Mutex(PageBitmap(count: partCount))
    guard source.contexts.contains(NBDExtent.dirtyBitmap(wish.name)) else {
      throw MoveError(
        "the disk has no dirty bitmap \(wish.name) here: godwit block serve --format qcow2 --bitmap \(wish.name)"
      )
    }
  }

  private var partCount: Int { changed.withLock { $0.count } }

  // MARK: What has changed

  /// Reads the bitmap. What was noted before stays.
  func load() throws(StoreError) {
    var place: UInt64 = 0
    while place < geometry.byteCount {
      let extents = try source.status(
        of: NBDExtent.dirtyBitmap(wish.name), at: place, count: geometry.byteCount - place,
        extentsMax: NBDLimits.extentsMax)
      for extent in extents {
        if extent.flags & NBDExtent.dirty != 0 {
          noteChange(geometry.touched(at: place, count: extent.length))
        }
        place += extent.length
      }
    }
  }

  func noteChange(_ blocks: Range<Int>) {
    guard !blocks.isEmpty else { return }
    let parts = (blocks.lowerBound / Self.partBlocks)...((blocks.upperBound - 1) / Self.partBlocks)
    changed.withLock { changed in
      for part in parts where part < changed.count { _ = changed.insert(part) }
    }
  }

  func noteAll() { noteChange(0..<geometry.blockCount) }

  /// What is sent is what the disk has, so outside the bitmap it is what was there.
  func noteSent(_ blocks: Range<Int>) -> Bool { true }

  func close() {}

  // MARK: What needn't be sent

  func parts(in blocks: Range<Int>) -> [Int] {
    let first = (blocks.lowerBound + Self.partBlocks - 1) / Self.partBlocks
    let last = min((blocks.upperBound - 1) / Self.partBlocks, partCount - 1)
    guard first <= last else { return [] }
    return changed.withLock { changed in
      (first...last).filter {
        !changed[$0] && self.blocks(of: $0).upperBound <= blocks.upperBound
      }
    }
  }

  func isSame(_ part: Int) -> Bool { changed.withLock { !$0[part] } }

  /// It was written meanwhile.
  func isSame(_ part: Int, _ bytes: UnsafeRawBufferPointer) -> Bool { false }

  func isThere(_ part: Int, over store: RemoteStore) throws(StoreError) -> Bool {
    if try isEqual(part, store) { return true }
    refusedParts.wrappingAdd(1, ordering: .relaxed)
    return false
  }

  private func isEqual(_ part: Int, _ store: RemoteStore) throws(StoreError) -> Bool {
    let range = geometry.bytes(of: blocks(of: part))
    let count = Int(range.upperBound - range.lowerBound)
    let (here, there) = (PageBuffer(byteCount: count), PageBuffer(byteCount: count))
    // SAFETY: the buffers are this call's own.
    let parts = unsafe (here.part(0, count), there.part(0, count))
    try unsafe source.read(at: range.lowerBound, into: parts.0)
    try unsafe store.read(at: range.lowerBound, into: parts.1)
    // SAFETY: both have `count` bytes.
    return unsafe memcmp(here.base, there.base, count) == 0
  }

  // MARK: The sample

  /// How often a part that is different is looked at again, and after how long, in milliseconds: a write that is being
  /// carried out isn't in the bitmap yet.
  private static let looks = 5
  private static let lookMs: UInt64 = 50

  /// Compares some parts that are outside the bitmap, drawn by chance, with the disk.
  func checkSample(over store: RemoteStore) throws {
    for part in sample(of: partCount, wish.sampleCount, seed: wish.seed) {
      guard try !isSettled(part, store) else { continue }
      let place = geometry.bytes(of: blocks(of: part)).lowerBound
      throw MoveError(
        "at \(place) the copy at the destination isn't what the disk has, and the bitmap \(wish.name) knows of no write there: make both anew, or move without"
      )
    }
  }

  /// Whether a part is the same at both sides, or was written.
  private func isSettled(_ part: Int, _ store: RemoteStore) throws(StoreError) -> Bool {
    for look in 0..<Self.looks {
      if look > 0 { MonotonicClock.sleep(us: Self.lookMs * 1000) }
      if try isEqual(part, store) { return true }
      try load()
      if !isSame(part) { return true }
    }
    return false
  }
}
