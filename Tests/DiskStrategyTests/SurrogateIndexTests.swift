import Base
import DiskStrategy
import Testing

/// A log as a device has it: what was written since the last flush may be lost, each record by itself.
private struct LogModel {
  struct Cell { let record: SurrogateRecord; let isHeader: Bool }
  var now: [UInt64: Cell] = [:]
  var stable: [UInt64: Cell] = [:]
  var unflushed: [(unit: UInt64, record: SurrogateRecord)] = []

  static func write(_ record: SurrogateRecord, at unit: UInt64, _ cells: inout [UInt64: Cell]) {
    for place in 0..<UInt64(record.unitCount) {
      cells[unit + place] = Cell(record: record, isHeader: place == 0)
    }
  }

  mutating func write(_ record: SurrogateRecord, at unit: UInt64) {
    Self.write(record, at: unit, &now)
    unflushed.append((unit, record))
  }

  mutating func flush() {
    stable = now
    unflushed = []
  }

  /// Records that are whole after a failure of the power.
  func afterFailure(_ random: inout SplitMix64) -> [(unit: UInt64, record: SurrogateRecord)] {
    var cells = stable
    for (unit, record) in unflushed where random.next() % 2 == 0 {
      Self.write(record, at: unit, &cells)
    }
    return cells.keys.sorted().compactMap { unit in
      guard let cell = cells[unit], cell.isHeader else { return nil }
      let isWhole = (0..<UInt64(cell.record.unitCount)).allSatisfy {
        cells[unit + $0]?.record == cell.record
      }
      return isWhole ? (unit, cell.record) : nil
    }
  }
}

@Suite struct SurrogateIndexTests {
  private static let blockCount = 5000

  /// Where each block's newest data are, whatever was written, cleaned and flushed; and that of what was
  /// flushed nothing is lost when the power fails.
  @Test(arguments: 1...4 as ClosedRange<UInt64>) func nothingNewestIsWrittenOver(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    var index = SurrogateIndex(blockCount: Self.blockCount, segmentCount: 5)
    var log = LogModel()
    var newest: [Int: UInt64] = [:]
    var flushed: [Int: UInt64] = [:]
    var (refused, cleaned) = (0, 0)

    func append(_ blocks: Range<Int>, _ kind: SurrogateRecord.Kind, forCleaning: Bool) -> Bool {
      let units = SurrogateRecord.unitCount(kind, blocks)
      guard let place = index.reserve(units, forCleaning: forCleaning) else { return false }
      let record = SurrogateRecord(
        log: 1, sequence: place.sequence, kind: kind, blocks: blocks, dataSum: 0)
      log.write(record, at: place.unit)
      index.commit(record, at: place)
      for block in blocks { newest[block] = kind == .copy ? nil : place.sequence }
      return true
    }

    for step in 0..<3000 {
      let first = Int(random.next() % (random.next() % 4 == 0 ? 4700 : 300))
      let blocks = first..<(first + 1 + Int(random.next() % (random.next() % 6 == 0 ? 256 : 8)))
      switch random.next() % 40 {
      case 0..<26:
        if !append(blocks, .data, forCleaning: false) { refused += 1 }
      case 26..<30: if !append(blocks, .zeros, forCleaning: false) { refused += 1 }
      case 30..<32:
        if index.isAbsent(blocks), !append(blocks, .copy, forCleaning: false) { refused += 1 }
      case 32:
        index.drop(blocks)
        for block in blocks { (newest[block], flushed[block]) = (nil, nil) }
      case 33:
        if let place = index.reserve(3) { index.abandon(place) }
      default:
        guard index.freeCount < 3 else { continue }
        if index.staleCount == 0 {
          for run in index.clean() ?? [] {
            cleaned += 1
            for piece in index.pieces(of: run, withCopies: false) where piece.place != .original {
              var kind = SurrogateRecord.Kind.data
              if case .zeros = piece.place { kind = .zeros }
              _ = append(piece.blocks, kind, forCleaning: true)
            }
          }
        }
        index.beginFlush()
        log.flush()
        flushed = newest
        index.endFlush(true)
      }
      guard step % 100 == 0 else { continue }
      check(index, log, newest, "seed \(seed), step \(step)")
      // The power fails: of what was flushed each block has that content or a newer one.
      var found = SurrogateIndex(blockCount: Self.blockCount, segmentCount: 5)
      for (unit, record) in log.afterFailure(&random) where record.kind != .copy {
        found.restore(record, at: unit)
      }
      for (block, sequence) in flushed {
        guard let piece = found.pieces(of: block..<(block + 1)).first else { continue }
        let known: UInt64 =
          switch piece.place {
          case .original: 0
          case .zeros(let sequence), .log(_, let sequence): sequence
          }
        if known < sequence {
          Issue.record(
            "block \(block) is as old as \(known), not \(sequence): seed \(seed), \(step)")
          return
        }
      }
    }
    #expect(cleaned > 0 && refused > 0, "\(cleaned) \(refused)")
  }

  private func check(
    _ index: SurrogateIndex, _ log: LogModel, _ newest: [Int: UInt64], _ where: String
  ) {
    for block in 0..<Self.blockCount {
      guard let sequence = newest[block] else {
        guard !index.outsourced[block] else {
          Issue.record("block \(block) is outsourced: \(`where`)")
          return
        }
        continue
      }
      let piece = index.pieces(of: block..<(block + 1)).first
      let isRight =
        switch piece?.place {
        case .log(let unit, let found):
          found == sequence && log.now[unit]?.record.sequence == sequence
            && log.now[unit]?.isHeader == false
        case .zeros(let found): found == sequence
        case .original, nil: false
        }
      guard isRight, index.outsourced[block] else {
        Issue.record("block \(block) is at \(String(describing: piece)): \(`where`)")
        return
      }
    }
  }

  @Test func whatFollowsIsOnePiece() throws {
    var index = SurrogateIndex(blockCount: 100, segmentCount: 3)
    let reserved = index.reserve(11)
    let place = try #require(reserved)
    let record = SurrogateRecord(
      log: 1, sequence: place.sequence, kind: .data, blocks: 10..<20, dataSum: 0)
    index.commit(record, at: place)
    let pieces = index.pieces(of: 5..<25)
    #expect(pieces.map(\.blocks) == [5..<10, 10..<20, 20..<25])
    #expect(pieces[1].place == .log(unit: place.unit + 1, sequence: place.sequence))
    index.drop(12..<13)
    #expect(index.pieces(of: 10..<20).map(\.blocks) == [10..<12, 12..<13, 13..<20])
    #expect(index.outsourced.population == 9 && index.kept.population == 0)
  }

  @Test func aLogNeedsRoom() {
    let unit = UInt64(DiskGeometry.blockByteCount)
    #expect(SurrogateIndex.segmentCount(byteCount: 0) == 0)
    #expect(SurrogateIndex.segmentCount(byteCount: 1024 * unit) == 0)
    #expect(SurrogateIndex.segmentCount(byteCount: 1025 * unit) == 1)
    #expect(SurrogateIndex.segmentCount(byteCount: 12 << 20) == 2)
    var index = SurrogateIndex(blockCount: 100, segmentCount: 3)
    var count = 0
    while index.reserve(1024) != nil { count += 1 }
    // One is left for cleaning.
    let (last, none) = (index.reserve(1024, forCleaning: true), index.reserve(1, forCleaning: true))
    #expect(count == 2 && last != nil && none == nil)
  }
}
