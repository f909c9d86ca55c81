import Base

/// Finding what is where.
extension SurrogateIndex {
  /// Blocks that follow one another, here and where they lie.
  public struct Piece: Sendable, Hashable {
    public enum Place: Sendable, Hashable {
      case original
      /// Of the record with this sequence.
      case zeros(sequence: UInt64)
      /// Data of the record with this sequence begin at this unit.
      case log(unit: UInt64, sequence: UInt64)
    }
    public let blocks: Range<Int>
    public let place: Place
  }

  /// Where the blocks are, from the first to the last.
  ///
  /// - Parameter withCopies: the log's copies of what the original has count, too.
  public func pieces(of blocks: Range<Int>, withCopies: Bool = true) -> [Piece] {
    var pieces: [Piece] = []
    for block in blocks {
      let place = place(of: block, withCopies)
      if let last = pieces.last, follows(last, block, place) {
        pieces[pieces.count - 1] = Piece(
          blocks: last.blocks.lowerBound..<(block + 1), place: last.place)
      } else {
        pieces.append(Piece(blocks: block..<(block + 1), place: place))
      }
    }
    return pieces
  }

  private func place(of block: Int, _ withCopies: Bool) -> Piece.Place {
    guard outsourced[block] || (withCopies && kept[block]), let place = known(block) else {
      return .original
    }
    guard let unit = place.unit else { return .zeros(sequence: place.sequence) }
    return .log(unit: unit, sequence: place.sequence)
  }

  private func follows(_ piece: Piece, _ block: Int, _ place: Piece.Place) -> Bool {
    switch (piece.place, place) {
    case (.original, .original): true
    case (.zeros(let one), .zeros(let other)): one == other
    case (.log(let start, let one), .log(let unit, let other)):
      one == other && unit == start + UInt64(block - piece.blocks.lowerBound)
    default: false
    }
  }

  /// Whether none of the blocks is in the log.
  public func isAbsent(_ blocks: Range<Int>) -> Bool {
    !blocks.contains { outsourced[$0] || kept[$0] }
  }

  /// Whether the log alone has the newest content of one of them.
  public func isOutsourced(_ blocks: Range<Int>) -> Bool { blocks.contains { outsourced[$0] } }
}

/// Cleaning: what is still needed of a segment is written once more, behind everything else.
extension SurrogateIndex {
  /// Drops copies of a segment and says what else of it is needed, when that is at most half of it; nil: no
  /// segment is worth it.
  public mutating func clean() -> [Range<Int>]? {
    var chosen: Int?
    for index in segments.indices where isCleanable(index) {
      if let before = chosen, segments[before].outsourced <= segments[index].outsourced { continue }
      chosen = index
    }
    guard let chosen else { return nil }
    var needed: [Range<Int>] = []
    for record in segments[chosen].records {
      let own = record.blocks.filter { known($0)?.sequence == record.sequence }
      if record.kind == .copy {
        for block in own { drop(block..<(block + 1)) }
        continue
      }
      for block in own {
        if let last = needed.last, last.upperBound == block {
          needed[needed.count - 1] = last.lowerBound..<(block + 1)
        } else {
          needed.append(block..<(block + 1))
        }
      }
    }
    return needed
  }

  private func isCleanable(_ index: Int) -> Bool {
    let segment = segments[index]
    return isClosed(index) && segment.live > 0 && segment.pending == 0
      && segment.outsourced <= Self.segmentUnitCount / 2
  }
}
