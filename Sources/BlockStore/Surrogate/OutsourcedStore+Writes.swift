import Base
import DiskStrategy
import HostIO
import NBD
import Synchronization

/// Writing to an outsourced disk.
extension OutsourcedStore {
  func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool
  ) throws(StoreError) {
    guard isInUse, let geometry else {
      return try unsafe original.write(bytes, at: offset, durable: durable)
    }
    let blocks = geometry.touched(at: offset, count: UInt64(bytes.count))
    let id = hold(blocks)
    defer { release(id) }
    try unsafe writeHeld(bytes, at: offset, durable, geometry, blocks)
  }

  /// Waits for its turn; `release` has to follow. Whoever has one doesn't ask for another.
  func hold(_ blocks: Range<Int>) -> UInt64 {
    let id = state.update { $0.enqueue(blocks) }
    while state.wait(until: { $0.isGranted(id) ? true : nil }) == nil {}
    return id
  }

  func release(_ id: UInt64) { state.update { $0.release(id) } }

  enum Way: Sendable { case plain, log(SurrogateLink), back }

  func way(_ blocks: Range<Int>) -> Way {
    state.update { state in
      switch state.mode {
      case .idle: return .plain
      case .passing:
        // It may still be under way when the surrogate is in use: what is read of the blocks meanwhile is no copy of them.
        state.pin(blocks)
        return .plain
      case .returning: return .back
      case .open:
        guard let link = state.link, !blocks.contains(where: { state.pinned[$0] }) else {
          return .back
        }
        state.writes += 1
        return .log(link)
      }
    }
  }

  /// The caller holds the blocks.
  func writeHeld(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, _ durable: Bool,
    _ geometry: DiskGeometry, _ blocks: Range<Int>
  ) throws(StoreError) {
    switch way(blocks) {
    case .plain: try unsafe original.write(bytes, at: offset, durable: durable)
    case .back:
      try unsafe writeBack(bytes, at: offset, durable, geometry, blocks)
      // That the log's older content counts no more has to be on stable storage, too.
      if durable { try syncBits() }
    case .log(let link):
      var first = blocks.lowerBound
      while first < blocks.upperBound {
        let part = first..<min(first + SurrogateRecord.blocksMax, blocks.upperBound)
        let range = geometry.bytes(of: part).clamped(to: offset..<(offset + UInt64(bytes.count)))
        // SAFETY: the slice is bounds-checked, and the caller keeps the buffer for the call.
        let data = unsafe UnsafeRawBufferPointer(
          rebasing: bytes[Int(range.lowerBound - offset)..<Int(range.upperBound - offset)])
        if try unsafe !append(data, at: range.lowerBound, part, geometry, link) {
          try unsafe writeBack(data, at: range.lowerBound, durable, geometry, part)
        }
        first = part.upperBound
      }
      if durable { try flushLog() }
    }
  }

  /// Puts a write into the log; false: it isn't there, and has to go to the original.
  private func append(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, _ blocks: Range<Int>,
    _ geometry: DiskGeometry, _ link: SurrogateLink
  ) throws(StoreError) -> Bool {
    let header = SurrogateRecord.headerByteCount
    let data = try unsafe wholeBlocks(bytes, at: offset, blocks, geometry, behind: header)
    return append(.data, blocks, data, link)
  }

  /// Appends a record whose header's place is free in front of the data.
  ///
  /// - Parameter buffer: header and whole blocks, of which the disk's last one may be shorter; for zeros only
  ///   a header.
  func append(
    _ kind: SurrogateRecord.Kind, _ blocks: Range<Int>, _ buffer: PageBuffer,
    _ link: SurrogateLink, forCleaning: Bool = false
  ) -> Bool {
    let units = SurrogateRecord.unitCount(kind, blocks)
    let reserved = state.update { state -> SurrogateIndex.Reservation? in
      guard state.mode == .open else { return nil }
      guard let place = state.index.reserve(units, forCleaning: forCleaning) else { return nil }
      state.pendingCount += 1
      // The next server has to know how far to look.
      state.keepSegmentCount()
      return place
    }
    guard let reserved else { return false }
    let count = units * SurrogateLink.unitByteCount
    let data = buffer.span(count).extracting(SurrogateRecord.headerByteCount..<count)
    let (dataSum, sums) = (SurrogateRecord.sum(of: data), SurrogateRecord.blockSums(of: data))
    let record = SurrogateRecord(
      log: link.log, sequence: reserved.sequence, kind: kind, blocks: blocks, dataSum: dataSum)
    let header = record.encoded
    // SAFETY: the array outlives the call.
    unsafe buffer.store(header.span.bytes, at: 0)
    do throws(StoreError) {
      let generation = try link.append(buffer, count: count, at: reserved.unit, durable: false)
      state.update { state in
        state.index.commit(record, at: reserved, sums: sums)
        state.pendingCount -= 1
        guard kind != .copy else { return }
        state.save(blocks)
        if state.appendedCount == state.flushedCount { state.unflushedGeneration = generation }
        // Part of it went over a connection that is gone, so no flush covers all.
        if state.unflushedGeneration != generation { state.hasLost = true }
        state.appendedCount += 1
      }
      return true
    } catch {
      state.update { state in
        state.index.abandon(reserved)
        state.pendingCount -= 1
        state.retreat("the surrogate failed a write: \(error)")
      }
      note("\(name): the surrogate failed a write (\(error)); what is in it goes back to the disk")
      return false
    }
  }

  /// The bytes with what else is in their first and last block, behind `gap` bytes that are zeros; padded with zeros
  /// behind the disk's end.
  private func wholeBlocks(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, _ blocks: Range<Int>,
    _ geometry: DiskGeometry, behind gap: Int
  ) throws(StoreError) -> PageBuffer {
    let buffer = PageBuffer(byteCount: gap + blocks.count * DiskGeometry.blockByteCount)
    // SAFETY: parts are bounds-checked; the buffer is this call's own.
    unsafe buffer.part(0, gap).initializeMemory(as: UInt8.self, repeating: 0)
    let range = geometry.bytes(of: blocks)
    let covered = geometry.covered(at: offset, count: UInt64(bytes.count))
    let edges =
      blocks.count == 1 ? [blocks.lowerBound] : [blocks.lowerBound, blocks.upperBound - 1]
    for block in edges where !covered.contains(block) {
      let old = geometry.bytes(of: block..<(block + 1))
      let place = gap + Int(old.lowerBound - range.lowerBound)
      let part = unsafe buffer.part(place, Int(old.upperBound - old.lowerBound))
      _ = try unsafe gather(
        geometry, block..<(block + 1), old.lowerBound, into: part, withCopies: true, isHeld: true)
    }
    let place = gap + Int(offset - range.lowerBound)
    unsafe buffer.part(place, bytes.count).copyMemory(from: bytes)
    let end = gap + Int(range.upperBound - range.lowerBound)
    unsafe buffer.part(end, buffer.byteCount - end).initializeMemory(
      as: UInt8.self, repeating: 0)
    return buffer
  }

  // MARK: Back to the original

  /// Writes to the original in place of the log, which has nothing of these blocks afterwards. The caller holds them.
  private func writeBack(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, _ durable: Bool,
    _ geometry: DiskGeometry, _ blocks: Range<Int>
  ) throws(StoreError) {
    guard leavesLog(blocks) else {
      return try unsafe original.write(bytes, at: offset, durable: durable)
    }
    let whole = try unsafe wholeBlocks(bytes, at: offset, blocks, geometry, behind: 0)
    let range = geometry.bytes(of: blocks)
    // SAFETY: the buffer is this call's own, at least as long as the blocks.
    let part = unsafe UnsafeRawBufferPointer(
      whole.part(0, Int(range.upperBound - range.lowerBound)))
    // Durably: the older content, which the log has, is not found any more from here on.
    try unsafe original.write(part, at: range.lowerBound, durable: true)
    state.update { $0.drop(blocks) }
  }

  /// The blocks are about to be written to the original, for good; false: the log has nothing of them that
  /// the original lacks.
  func leavesLog(_ blocks: Range<Int>) -> Bool {
    state.update { state in
      switch state.mode {
      case .idle: return false
      case .passing: state.pin(blocks)
      case .open:
        state.refusedWrites += 1
        state.pin(blocks)
      case .returning: break
      }
      if state.index.isOutsourced(blocks) { return true }
      state.index.drop(blocks)
      return false
    }
  }

  // MARK: Flush

  func flush() throws(StoreError) {
    try original.flush()
    if isInUse { try flushLog() }
  }

  /// Which blocks the log has the newest content of is on stable storage when this returns.
  private func syncBits() throws(StoreError) {
    let file = state.read { $0.file }
    do throws(SystemError) { try file?.sync() } catch {
      throw StoreError(.inputOutput, "can't remember what the surrogate has: \(error)")
    }
  }

  /// All records that were written, and which blocks they are of, are on stable storage when this returns.
  func flushLog() throws(StoreError) {
    try flushing.withLock { _ throws(StoreError) in
      let work = state.update { $0.beginFlush() }
      var problem: StoreError?
      var generation: UInt64?
      do throws(StoreError) {
        if let link = work.link { generation = try link.flush() }
      } catch {
        problem = error
      }
      var fileProblem: SystemError?
      do throws(SystemError) { try work.file?.sync() } catch { fileProblem = error }
      let outcome = (problem, fileProblem)
      let failure = state.update { $0.endFlush(work, generation, outcome.0, outcome.1) }
      if let failure { throw failure }
    }
  }
}
