import Base

/// The last content that was sent of some pages, within a bounded memory: what deltas are made against.
///
/// Pages that were sent more than once stay in preference: they will come again.
struct SentPages: Sendable {
  /// Pages in one piece of memory: 1 MiB.
  private static let slabPages = 256

  /// Pages that are kept at most.
  let capacity: Int
  private var slabs: [[UInt8]] = []
  private var slots: [Int: Int32] = [:]
  /// By slot: whose it is, and whether it was sent again since the hand came by.
  private var owners: [Int] = []
  private var wasRepeated: [Bool] = []
  private var free: [Int32] = []
  private var hand = 0

  /// - Parameter byteLimit: memory for contents, rounded down to whole MiB.
  init(byteLimit: UInt64) {
    let pages = min(byteLimit / UInt64(Page.size), UInt64(Int32.max))
    capacity = Int(pages) / Self.slabPages * Self.slabPages
  }

  /// Pages that are kept.
  var count: Int { slots.count }

  /// Writes `page` XOR what was sent of it before to `target`; returns how many 8-byte words of it are not
  /// zero, nil when nothing is kept of the page.
  func difference(
    _ number: Int, _ page: RawSpan, into target: UnsafeMutableRawBufferPointer
  ) -> Int? {
    guard let slot = slots[number] else { return nil }
    precondition(page.byteCount == Page.size && target.count >= Page.size)
    let start = (Int(slot) % Self.slabPages) * Page.size
    var words = 0
    unsafe slabs[Int(slot) / Self.slabPages].withUnsafeBytes { slab in
      // SAFETY: a slot's 4096 bytes are inside its slab; page and target have as many by the
      // precondition; any bit pattern is a valid vector.
      for offset in stride(from: 0, to: Page.size, by: 64) {
        let old = unsafe slab.loadUnaligned(
          fromByteOffset: start &+ offset, as: SIMD8<UInt64>.self)
        let new = unsafe page.unsafeLoadUnaligned(
          fromUncheckedByteOffset: offset, as: SIMD8<UInt64>.self)
        let difference = old ^ new
        unsafe target.storeBytes(of: difference, toByteOffset: offset, as: SIMD8<UInt64>.self)
        guard difference != .zero else { continue }
        for lane in 0..<8 where difference[lane] != 0 { words &+= 1 }
      }
    }
    return words
  }

  /// Notes what was sent of a page now.
  mutating func sent(_ number: Int, _ page: RawSpan) {
    if let slot = slots[number] {
      wasRepeated[Int(slot)] = true
      return store(page, at: Int(slot))
    }
    guard let slot = freeSlot() else { return }
    (owners[slot], wasRepeated[slot]) = (number, false)
    slots[number] = Int32(truncatingIfNeeded: slot)  // below capacity, fits
    store(page, at: slot)
  }

  /// The page was sent as zeros, or in a way that nobody noted.
  mutating func forget(_ number: Int) {
    guard let slot = slots.removeValue(forKey: number) else { return }
    owners[Int(slot)] = -1
    free.append(slot)
  }

  mutating func forgetAll() {
    guard !slots.isEmpty else { return }
    slots.removeAll(keepingCapacity: true)
    free = (0..<Int32(truncatingIfNeeded: owners.count)).reversed()
    for slot in owners.indices { owners[slot] = -1 }
  }

  private mutating func freeSlot() -> Int? {
    if let slot = free.popLast() { return Int(slot) }
    if owners.count < capacity {
      if owners.count == slabs.count * Self.slabPages {
        slabs.append([UInt8](repeating: 0, count: Self.slabPages * Page.size))
      }
      owners.append(-1)
      wasRepeated.append(false)
      return owners.count - 1
    }
    return evict()
  }

  /// The clock: the first slot that was not sent again since the hand came by last. Looks at few of them, so
  /// that a cache of pages that all come again keeps what it has.
  private mutating func evict() -> Int? {
    guard capacity > 0 else { return nil }
    for _ in 0..<8 {
      let slot = hand
      hand = (hand + 1) % owners.count
      if wasRepeated[slot] {
        wasRepeated[slot] = false
        continue
      }
      slots.removeValue(forKey: owners[slot])
      return slot
    }
    return nil
  }

  private mutating func store(_ page: RawSpan, at slot: Int) {
    let start = (slot % Self.slabPages) * Page.size
    unsafe slabs[slot / Self.slabPages].withUnsafeMutableBytes { slab in
      unsafe page.withUnsafeBytes { bytes in
        // SAFETY: the slot's place is inside its slab, which the slice checks.
        unsafe UnsafeMutableRawBufferPointer(rebasing: slab[start..<start + Page.size])
          .copyMemory(from: bytes)
      }
    }
  }
}
