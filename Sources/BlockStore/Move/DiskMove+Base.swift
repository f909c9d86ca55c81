import DiskStrategy
import HostIO
import NBD

/// Sending only what an older copy at the destination hasn't.
extension DiskMove {
  /// Sends of a run what isn't there, and notes that the rest is.
  ///
  /// - Parameter buffer: holds the run.
  func copy(
    _ blocks: Range<Int>, over base: any OlderCopy, _ buffer: PageBuffer, _ link: MoveLink,
    _ isNear: Bool
  ) {
    var (same, left): ([Range<Int>], [Range<Int>]) = ([], [])
    do throws(StoreError) {
      var unknown: [Int] = []
      for part in base.parts(in: blocks) {
        guard base.isSame(part) else {
          unknown.append(part)
          continue
        }
        if try isThere(part, base, link) { same.append(base.blocks(of: part)) }
      }
      for run in Self.without(same, blocks) { try read(run, of: blocks, buffer, isNear) }
      for part in unknown {
        let run = base.blocks(of: part)
        let bytes = geometry.bytes(of: run)
        let place = (run.lowerBound - blocks.lowerBound) * DiskGeometry.blockByteCount
        // SAFETY: the run is within `blocks`, and the buffer is this thread's.
        let data = unsafe UnsafeRawBufferPointer(
          buffer.part(place, Int(bytes.upperBound - bytes.lowerBound)))
        if unsafe base.isSame(part, data), try isThere(part, base, link) { same.append(run) }
      }
      left = Self.without(same, blocks)
    } catch {
      state.update { $0.end(blocks, arrived: false, over: link) }
      if !link.isBroken { stop("can't read the disk or its copy: \(error)") }
      return
    }
    let there = same
    state.update { state in
      for run in there { state.end(run, arrived: true, over: link, wasSent: false) }
    }
    for run in left {
      let bytes = geometry.bytes(of: run)
      let place = (run.lowerBound - blocks.lowerBound) * DiskGeometry.blockByteCount
      // SAFETY: as above.
      let data = unsafe UnsafeRawBufferPointer(
        buffer.part(place, Int(bytes.upperBound - bytes.lowerBound)))
      unsafe send(run, data, link, isForwarded: false)
    }
  }

  /// Whether the copy has a part, as far as that is to be looked at.
  private func isThere(
    _ part: Int, _ base: any OlderCopy, _ link: MoveLink
  ) throws(StoreError) -> Bool {
    guard base.verifiesAll else { return true }
    return try base.isThere(part, over: link.store)
  }

  private func read(
    _ run: Range<Int>, of blocks: Range<Int>, _ buffer: PageBuffer, _ isNear: Bool
  ) throws(StoreError) {
    let range = geometry.bytes(of: run)
    let place = (run.lowerBound - blocks.lowerBound) * DiskGeometry.blockByteCount
    // SAFETY: the run is within `blocks`, which the buffer holds.
    let room = unsafe buffer.part(place, Int(range.upperBound - range.lowerBound))
    try unsafe read(range, into: room, keeps: isNear)
  }

  /// What is left of a run without some others in it, which don't overlap.
  private static func without(_ others: [Range<Int>], _ run: Range<Int>) -> [Range<Int>] {
    var (left, first): ([Range<Int>], Int) = ([], run.lowerBound)
    for other in others.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if first < other.lowerBound { left.append(first..<other.lowerBound) }
      first = other.upperBound
    }
    return first < run.upperBound ? left + [first..<run.upperBound] : left
  }
}
