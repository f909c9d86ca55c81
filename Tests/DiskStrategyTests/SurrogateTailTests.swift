import Base
import DiskStrategy
import Testing

/// Reading a surrogate's log in its own order.
@Suite struct SurrogateTailTests {
  private static let blockCount = 20_000

  /// A log after many records of any kind and length; what the newest of each block is.
  private func fill(
    _ random: inout SplitMix64, records: Int
  ) -> (SurrogateIndex, [Int: SurrogateIndex.Piece.Place]) {
    var index = SurrogateIndex(blockCount: Self.blockCount, segmentCount: 64)
    var newest: [Int: SurrogateIndex.Piece.Place] = [:]
    for _ in 0..<records {
      let kinds: [SurrogateRecord.Kind] = [.data, .data, .data, .zeros, .copy]
      let kind = kinds[Int(random.next() % 5)]
      let first = Int(random.next() % UInt64(Self.blockCount - 256))
      let count = random.next() % 8 == 0 ? 1 + Int(random.next() % 256) : 1
      let blocks = first..<(first + count)
      // Only what the log hasn't is copied there.
      if kind == .copy, !index.isAbsent(blocks) { continue }
      guard let place = index.reserve(SurrogateRecord.unitCount(kind, blocks)) else { break }
      let record = SurrogateRecord(
        log: 1, sequence: place.sequence, kind: kind, blocks: blocks, dataSum: 0)
      index.commit(record, at: place, sums: kind == .zeros ? [] : blocks.map { UInt64($0) })
      for block in blocks {
        let unit = place.unit + 1 + UInt64(block - first)
        newest[block] = kind == .data ? .log(unit: unit, sequence: place.sequence) : nil
      }
    }
    return (index, newest)
  }

  /// Each block that is wanted comes once, from where its newest data are, and the head goes in one direction.
  @Test(arguments: 1...4 as ClosedRange<UInt64>) func onceThroughTheLog(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let (index, newest) = fill(&random, records: 3000)
    var left = newest.filter { $0.key % 3 != 0 }
    var (unit, reads): (UInt64, Int) = (0, 0)
    while true {
      let look = index.tail(from: unit) { $0 % 3 != 0 }
      switch look {
      case .end:
        #expect(left.isEmpty, "seed \(seed)")
        #expect(reads > 0 && reads < newest.count / 4, "seed \(seed)")
        return
      case .nothing(let before):
        #expect(before > unit, "seed \(seed)")
        unit = before
      case .read(let read):
        #expect(read.unit >= unit && read.unitCount <= SurrogateIndex.tailUnitsMax)
        unit = read.unit + UInt64(read.unitCount)
        reads += 1
        for piece in read.pieces {
          guard case .log(let start, let sequence) = piece.place else {
            Issue.record("seed \(seed): \(piece) has no data")
            continue
          }
          for (number, block) in piece.blocks.enumerated() {
            let place = SurrogateIndex.Piece.Place.log(
              unit: start + UInt64(number), sequence: sequence)
            #expect(start + UInt64(number) < unit && start >= read.unit)
            // A record's later blocks are known by where they lie.
            let found = left.removeValue(forKey: block)
            #expect(found == place, "seed \(seed), block \(block)")
          }
        }
      }
    }
  }

  @Test func nothingWanted() {
    var random = SplitMix64(seed: 1)
    let (index, _) = fill(&random, records: 300)
    var unit: UInt64 = 0
    while case .nothing(let before) = index.tail(from: unit, wanted: { _ in false }) {
      unit = before
    }
    #expect(index.tail(from: unit) { _ in false } == .end)
    #expect(index.tail(from: .max) { _ in true } == .end)
    let empty = SurrogateIndex(blockCount: 10, segmentCount: 3)
    #expect(empty.tail(from: 0) { _ in true } == .end)
  }
}
