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

  /// What is there after a failure of the power.
  func afterFailure(_ random: inout SplitMix64) -> [UInt64: Cell] {
    var cells = stable
    for (unit, record) in unflushed where random.next() % 2 == 0 {
      Self.write(record, at: unit, &cells)
    }
    return cells
  }

  /// Records that are whole.
  static func records(_ cells: [UInt64: Cell]) -> [(unit: UInt64, record: SurrogateRecord)] {
    cells.keys.sorted().compactMap { unit in
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
    // What is in the blocks: the record they were written with first. And that of each record.
    var (content, flushedContent) = ([Int: UInt64](), [Int: UInt64]())
    var contents: [UInt64: [Int: UInt64]] = [:]
    var (refused, cleaned) = (0, 0)

    func append(_ blocks: Range<Int>, _ kind: SurrogateRecord.Kind, forCleaning: Bool) -> Bool {
      let units = SurrogateRecord.unitCount(kind, blocks)
      guard let place = index.reserve(units, forCleaning: forCleaning) else { return false }
      let record = SurrogateRecord(
        log: 1, sequence: place.sequence, kind: kind, blocks: blocks, dataSum: 0)
      log.write(record, at: place.unit)
      for block in blocks where !forCleaning { content[block] = place.sequence }
      for block in blocks { contents[place.sequence, default: [:]][block] = content[block] }
      let sums = kind == .zeros ? [] : blocks.map { content[$0] ?? 0 }
      index.commit(record, at: place, sums: sums)
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
          if let cleaning = index.clean() {
            for run in cleaning.runs {
              cleaned += 1
              for part in index.rewrites(of: run, in: cleaning.segment) {
                let isDone = append(part.blocks, part.isZeros ? .zeros : .data, forCleaning: true)
                #expect(isDone, "no room for cleaning: seed \(seed), step \(step)")
              }
            }
            let staleCount = index.staleCount
            #expect(staleCount > 0, "cleaned in vain: seed \(seed), step \(step)")
          }
        }
        // Some fail.
        index.beginFlush()
        let isDone = random.next() % 4 != 0
        if isDone {
          log.flush()
          (flushed, flushedContent) = (newest, content)
        }
        index.endFlush(isDone)
      }
      guard step % 100 == 0 else { continue }
      check(index, log, newest, content, "seed \(seed), step \(step)")
      // The power fails: of what was flushed each block has that content or a newer one.
      var found = SurrogateIndex(blockCount: Self.blockCount, segmentCount: 5)
      let cells = log.afterFailure(&random)
      for (unit, record) in LogModel.records(cells) where record.kind != .copy {
        let sums = record.kind == .zeros ? [] : record.blocks.map { _ in UInt64(0) }
        found.restore(record, at: unit, sums: sums)
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
      // And who goes on with this index finds what was flushed and not changed since, at its place or where it was before.
      for (block, wanted) in flushedContent where flushed[block] != nil && content[block] == wanted
      {
        guard newest[block] != nil,
          case .log(let unit, _) = index.pieces(of: block..<(block + 1))[0].place
        else { continue }
        let isFound = [unit, index.unitBefore(block)].contains { place in
          guard let place, let cell = cells[place], !cell.isHeader else { return false }
          return contents[cell.record.sequence]?[block] == wanted
        }
        if !isFound {
          Issue.record("block \(block) is gone: seed \(seed), step \(step)")
          return
        }
      }
    }
    #expect(cleaned > 0 && refused > 0, "\(cleaned) \(refused)")
  }

  private func check(
    _ index: SurrogateIndex, _ log: LogModel, _ newest: [Int: UInt64], _ content: [Int: UInt64],
    _ where: String
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
      let sum = index.sums(of: block..<(block + 1)).first
      let isRight =
        switch piece?.place {
        case .log(let unit, let found):
          found == sequence && sum == content[block] && log.now[unit]?.record.sequence == sequence
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
    index.commit(record, at: place, sums: Array(1...10))
    let pieces = index.pieces(of: 5..<25)
    #expect(pieces.map(\.blocks) == [5..<10, 10..<20, 20..<25])
    #expect(pieces[1].place == .log(unit: place.unit + 1, sequence: place.sequence))
    index.drop(12..<13)
    #expect(index.pieces(of: 10..<20).map(\.blocks) == [10..<12, 12..<13, 13..<20])
    #expect(index.sums(of: 9..<15) == [0, 1, 2, 0, 4, 5])
    #expect(index.outsourced.population == 9 && index.kept.population == 0)
  }

  /// Blocks that are written one by one fill a log with headers. Cleaning comes to an end, whatever was written, and
  /// never finds no room.
  @Test(arguments: 1...4 as ClosedRange<UInt64>) func cleaningComesToAnEnd(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    let segmentCount = 3 + Int(seed)
    var index = SurrogateIndex(blockCount: Self.blockCount, segmentCount: segmentCount)
    func append(_ blocks: Range<Int>, _ isZeros: Bool, forCleaning: Bool) -> Bool {
      let kind = isZeros ? SurrogateRecord.Kind.zeros : .data
      let units = SurrogateRecord.unitCount(kind, blocks)
      guard let place = index.reserve(units, forCleaning: forCleaning) else { return false }
      let record = SurrogateRecord(
        log: 1, sequence: place.sequence, kind: kind, blocks: blocks, dataSum: 0)
      index.commit(record, at: place, sums: isZeros ? [] : blocks.map { UInt64($0) })
      return true
    }
    // As the thread does that cleans; how often it found something to do.
    func clean(roundsMax: Int) throws -> Int {
      for round in 0..<roundsMax {
        guard index.freeCount < 3 else { return round }
        if index.staleCount == 0 {
          guard index.freeCount > 0, let cleaning = index.clean() else { return round }
          for run in cleaning.runs {
            for part in index.rewrites(of: run, in: cleaning.segment) {
              let isDone = append(part.blocks, part.isZeros, forCleaning: true)
              try #require(isDone, "no room for cleaning, round \(round)")
            }
          }
          let staleCount = index.staleCount
          try #require(staleCount > 0, "in vain, round \(round)")
        }
        index.beginFlush()
        index.endFlush(true)
      }
      return roundsMax
    }
    var (refused, rounds) = (0, 0)
    for _ in 0..<8000 {
      let block = Int(random.next() % UInt64(400 * segmentCount))
      let isLong = random.next() % 64 == 0
      let blocks = block..<(block + (isLong ? 1 + Int(random.next() % 128) : 1))
      if !append(blocks, random.next() % 16 == 0, forCleaning: false) {
        refused += 1
        // It goes to the disk.
        index.drop(blocks)
      }
      rounds += try clean(roundsMax: 1)
    }
    // Nobody writes any more.
    let last = try clean(roundsMax: 1000)
    #expect(last < 4 * segmentCount, "it goes round: \(last)")
    #expect(refused > 0 && rounds > 0, "\(refused) \(rounds)")
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
