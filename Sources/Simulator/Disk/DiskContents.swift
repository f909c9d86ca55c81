import DiskStrategy

/// What both sides of a simulated move hold, block by block, as numbers of writes: so that a copy that is not
/// whole shows.
struct DiskContents {
  /// What was read while it was written is nothing that the disk ever held.
  static let torn = UInt32.max

  private(set) var source: [UInt32]
  private var destination: [UInt32]
  /// Blocks that are being written at the source, and by how many.
  private var writing: [Int: Int] = [:]
  /// Blocks whose content changed since a read of them began, by the number of the read.
  private var reads: [Int: (blocks: Range<Int>, torn: Set<Int>)] = [:]
  private var writes: UInt32 = 0

  init(blockCount: Int) {
    source = Array(repeating: 0, count: blockCount)
    // Nothing is there yet that could be right by accident.
    destination = Array(repeating: .max - 1, count: blockCount)
  }

  mutating func beginWrite(_ blocks: Range<Int>) {
    for block in blocks {
      writing[block, default: 0] += 1
      tear(block)
    }
  }

  /// What a new write writes.
  mutating func newValue() -> UInt32 {
    writes += 1
    return writes
  }

  mutating func endWrite(_ blocks: Range<Int>, _ value: UInt32) {
    for block in blocks {
      source[block] = value
      writing[block, default: 1] -= 1
      if writing[block] == 0 { writing[block] = nil }
      tear(block)
    }
  }

  mutating func beginRead(_ number: Int, _ blocks: Range<Int>) {
    reads[number] = (blocks, Set(blocks.filter { writing[$0] != nil }))
  }

  mutating func endRead(_ number: Int) -> [UInt32] {
    guard let read = reads.removeValue(forKey: number) else { return [] }
    return read.blocks.map { read.torn.contains($0) ? Self.torn : source[$0] }
  }

  mutating func arrive(_ blocks: Range<Int>, _ content: [UInt32]) {
    for (block, value) in zip(blocks, content) { destination[block] = value }
  }

  /// The first block that differs.
  var firstDifference: Int? { source.indices.first { source[$0] != destination[$0] } }

  private mutating func tear(_ block: Int) {
    for (number, read) in reads where read.blocks.contains(block) {
      reads[number]?.torn.insert(block)
    }
  }
}
