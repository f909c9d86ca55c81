import Base
import HostIO

/// Page bytes that arrived in QEMU's stream and wait for their turn: the newest version of each only.
///
/// Bounded (I5): at most `capacity` pages. A newer version frees the older one's place before that has
/// cost any bandwidth. Page bytes are written to a reserved place without a lock, and belong to whoever
/// holds the place.
struct PagePen: Sendable {
  /// Pages that fit.
  let capacity: Int
  /// Holds place `n` at byte `n * 4096`. Untouched places cost no memory.
  let buffer: PageBuffer
  private var free: [Int32]
  /// Places handed out for the first time so far; those above were never touched.
  private var used = 0
  private var places: [Int: Int32] = [:]

  /// - Parameter byteLimit: memory for pages, at least one batch of them.
  init(byteLimit: UInt64) {
    let pages = Int(clamping: byteLimit / UInt64(Page.size))
    capacity = min(max(pages, PagePen.reserveMax * 2), Int(Int32.max))
    buffer = PageBuffer(byteCount: capacity * Page.size)
    free = []
  }

  /// Most places that a reader reserves at once.
  static let reserveMax = 256

  /// Pages that wait.
  var count: Int { places.count }

  /// Places for a reader to fill, up to `reserveMax`; empty while the pen is full.
  mutating func reserve() -> [Int32] {
    var reserved: [Int32] = []
    while reserved.count < Self.reserveMax {
      if let place = free.popLast() {
        reserved.append(place)
      } else if used < capacity {
        reserved.append(Int32(truncatingIfNeeded: used))  // capacity fits Int32
        used += 1
      } else {
        break
      }
    }
    return reserved
  }

  /// The page's newest version is at `place`; nil: it is all zeros.
  mutating func put(_ page: Int, at place: Int32?) {
    if let old = places[page] { free.append(old) }
    places[page] = place
  }

  /// The page leaves the pen; its place belongs to the caller until `release`.
  mutating func take(_ page: Int) -> Int32? { places.removeValue(forKey: page) }

  /// Places whose bytes are of no use any more.
  mutating func release(_ released: [Int32]) { free += released }
}
