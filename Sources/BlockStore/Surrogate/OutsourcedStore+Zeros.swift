import DiskStrategy
import HostIO

/// Zeros and discards on an outsourced disk.
extension OutsourcedStore {
  func zero(
    at offset: UInt64, count: UInt64, _ options: ZeroOptions
  ) throws(StoreError) {
    guard isInUse, let geometry else {
      return try original.zero(at: offset, count: count, options)
    }
    let blocks = geometry.touched(at: offset, count: count)
    let id = hold(blocks)
    defer { release(id) }
    let covered = geometry.covered(at: offset, count: count)
    try zeroHeld(covered, geometry, options)
    let whole = geometry.bytes(of: covered)
    let end = offset + count
    // What is left in front and behind is less than a block each.
    let rests =
      covered.isEmpty
      ? [offset..<end] : [offset..<whole.lowerBound, whole.upperBound..<max(end, whole.upperBound)]
    for rest in rests where !rest.isEmpty {
      let zeros = PageBuffer.zeroed(byteCount: Int(rest.upperBound - rest.lowerBound))
      // SAFETY: the buffer is this call's own.
      let bytes = unsafe UnsafeRawBufferPointer(zeros.part(0, zeros.byteCount))
      let blocks = geometry.touched(at: rest.lowerBound, count: UInt64(bytes.count))
      try unsafe writeHeld(bytes, at: rest.lowerBound, false, geometry, blocks)
    }
    if options.contains(.durable) { try flush() }
  }

  /// Longer zeros go to the original: in the log they would cost no room there, but memory here for each block.
  private static let zeroBlocksInLog = 256

  private func zeroHeld(
    _ blocks: Range<Int>, _ geometry: DiskGeometry, _ options: ZeroOptions
  ) throws(StoreError) {
    guard !blocks.isEmpty else { return }
    let isSmall = blocks.count <= Self.zeroBlocksInLog
    if isSmall, case .log(let link) = way(blocks) {
      let header = PageBuffer.zeroed(byteCount: SurrogateRecord.headerByteCount)
      if append(.zeros, blocks, header, link) { return }
    }
    let range = geometry.bytes(of: blocks)
    let leaves = leavesLog(blocks)
    try original.zero(
      at: range.lowerBound, count: range.upperBound - range.lowerBound, options)
    guard leaves else { return }
    try original.flush()
    state.update { $0.drop(blocks) }
  }

  func trim(at offset: UInt64, count: UInt64) throws(StoreError) {
    // It was a hint; what the range holds must stay what copies of it hold.
    guard !isInUse else { return }
    try original.trim(at: offset, count: count)
  }
}
