import DiskStrategy
import HostIO
import NBD

/// Reading what is partly in the log.
extension OutsourcedStore {
  /// Times that a block is read while it is written again and again; then its writers wait for once.
  private static let roundsMax = 4

  /// A piece, and what its blocks' data have to sum up to, when it is in the log.
  private struct Part: Sendable {
    let piece: SurrogateIndex.Piece
    let sums: [UInt64]
  }

  /// Reads each part from where it is; says whether the log had one.
  ///
  /// What the log has is compared with the sums that were made when it was written: a unit may have been given
  /// away since the look, and a surrogate's server may have lost what it never flushed. The first is read once
  /// more from where it is now, and only that; the second is an error. (XXH3 of 4 KiB at each write and each read.)
  ///
  /// - Parameter isHeld: the caller holds the blocks.
  func gather(
    _ geometry: DiskGeometry, _ blocks: Range<Int>, _ offset: UInt64,
    into target: UnsafeMutableRawBufferPointer, withCopies: Bool, isHeld: Bool = false
  ) throws(StoreError) -> Bool {
    var wasInLog = false
    var runs = [blocks]
    var round = 0
    while !runs.isEmpty {
      var again: [Range<Int>] = []
      for run in runs {
        let id = round < Self.roundsMax || isHeld ? nil : hold(run)
        defer { if let id { release(id) } }
        let (parts, link) = look(run, withCopies)
        for part in parts {
          if part.piece.place != .original { wasInLog = true }
          let isRead = try unsafe read(part, geometry, offset, target, link, withCopies)
          if !isRead { again.append(part.piece.blocks) }
        }
      }
      runs = again
      round += 1
    }
    return wasInLog
  }

  private func look(_ run: Range<Int>, _ withCopies: Bool) -> ([Part], SurrogateLink?) {
    state.read { state in
      let parts = state.index.pieces(of: run, withCopies: withCopies).map { piece in
        switch piece.place {
        case .original, .zeros: Part(piece: piece, sums: [])
        case .log: Part(piece: piece, sums: state.index.sums(of: piece.blocks))
        }
      }
      return (parts, state.link)
    }
  }

  /// Reads what is wanted of a part; false: it isn't there any more.
  private func read(
    _ part: Part, _ geometry: DiskGeometry, _ offset: UInt64,
    _ target: UnsafeMutableRawBufferPointer, _ link: SurrogateLink?, _ withCopies: Bool
  ) throws(StoreError) -> Bool {
    let bytes = geometry.bytes(of: part.piece.blocks)
    let start = max(bytes.lowerBound, offset)
    let end = min(bytes.upperBound, offset + UInt64(target.count))
    guard start < end else { return true }
    // SAFETY: the slice is bounds-checked, and the caller keeps the buffer for the call.
    let room = unsafe UnsafeMutableRawBufferPointer(
      rebasing: target[Int(start - offset)..<Int(end - offset)])
    switch part.piece.place {
    case .original: try unsafe original.read(at: start, into: room)
    // SAFETY: the room is within the caller's buffer.
    case .zeros: unsafe room.initializeMemory(as: UInt8.self, repeating: 0)
    case .log(let unit, _):
      guard let link else { throw StoreError(.inputOutput, "the surrogate is gone") }
      let skipped = Int(start - bytes.lowerBound)
      do throws(StoreError) {
        if try unsafe read(part, unit, skipped, into: room, link) { return true }
      } catch {
        guard isThere(part, withCopies) else { return false }
        // What can't be read of a copy the original has.
        if withCopies, state.update({ $0.dropCopies(part.piece.blocks) }) { return false }
        throw error
      }
      guard isThere(part, withCopies) else { return false }
      if withCopies, state.update({ $0.dropCopies(part.piece.blocks) }) { return false }
      let buffer = PageBuffer(byteCount: part.sums.count * SurrogateLink.unitByteCount)
      let missing = try readChecked(part.piece.blocks, at: unit, part.sums, into: buffer, link)
      guard missing.isEmpty else { throw lost(part.piece.blocks, geometry) }
      // SAFETY: both are within their buffers, by their bounds checks.
      unsafe room.copyMemory(from: UnsafeRawBufferPointer(buffer.part(skipped, room.count)))
    }
    return true
  }

  /// Reads blocks that nobody changes from the log; says which of them aren't what was written, there nor where they were
  /// before the log was cleaned.
  func readChecked(
    _ blocks: Range<Int>, at unit: UInt64, _ sums: [UInt64], into buffer: PageBuffer,
    _ link: SurrogateLink, patienceMs: UInt64 = SurrogateLink.patienceMs
  ) throws(StoreError) -> [Int] {
    let size = SurrogateLink.unitByteCount
    let all = blocks.count * size
    // SAFETY: the buffer is the caller's, for this call; parts are bounds-checked.
    try unsafe link.read(at: unit, into: buffer.part(0, all), patienceMs: patienceMs)
    var missing: [Int] = []
    for (index, found) in SurrogateRecord.blockSums(of: buffer.span(all)).enumerated()
    where found != sums[index] {
      let block = blocks.lowerBound + index
      guard let other = state.read({ $0.index.unitBefore(block) }) else {
        missing.append(block)
        continue
      }
      let room = unsafe buffer.part(index * size, size)
      try unsafe link.read(at: other, into: room, patienceMs: patienceMs)
      if unsafe SurrogateRecord.sum(of: room.bytes) != sums[index] { missing.append(block) }
    }
    return missing
  }

  private func isThere(_ part: Part, _ withCopies: Bool) -> Bool {
    let piece = part.piece
    return state.read {
      $0.index.pieces(of: piece.blocks, withCopies: withCopies) == [piece]
    }
  }

  /// Reads from the log; false: what is there isn't what was written.
  private func read(
    _ part: Part, _ unit: UInt64, _ skipped: Int, into room: UnsafeMutableRawBufferPointer,
    _ link: SurrogateLink
  ) throws(StoreError) -> Bool {
    let byteCount = part.sums.count * SurrogateLink.unitByteCount
    if room.count == byteCount {
      try unsafe link.read(at: unit, into: room)
      // SAFETY: the room stays for the call, and nobody else writes to it.
      return unsafe SurrogateRecord.blockSums(of: room.bytes) == part.sums
    }
    // Only whole blocks can be compared.
    let buffer = PageBuffer(byteCount: byteCount)
    // SAFETY: the buffer is this call's own; `room` is as long as what is copied there, by the slice's bounds check.
    try unsafe link.read(at: unit, into: buffer.part(0, byteCount))
    guard SurrogateRecord.blockSums(of: buffer.span(byteCount)) == part.sums else { return false }
    unsafe room.copyMemory(from: UnsafeRawBufferPointer(buffer.part(skipped, room.count)))
    return true
  }

  /// The error of whoever wants to have what the surrogate lost. It stays one until the blocks are written anew.
  func lost(_ blocks: Range<Int>, _ geometry: DiskGeometry) -> StoreError {
    let isNew = state.update { state in
      defer { state.noteLost() }
      return !state.hasLost
    }
    let place = geometry.bytes(of: blocks).lowerBound
    if isNew { note("\(name): the surrogate has lost what was written at \(place)") }
    return StoreError(.inputOutput, "the surrogate has lost what was written at \(place)")
  }
}
