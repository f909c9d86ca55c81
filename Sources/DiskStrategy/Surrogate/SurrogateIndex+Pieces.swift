import Base

/// Finding what is where.
extension SurrogateIndex {
  /// Blocks that follow one another, here and where they lie.
  public struct Piece: Sendable, Hashable {
    /// Where the newest content of the blocks is.
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

  /// What was said of the blocks' data when they were committed; 0 for zeros, and for what isn't in the log.
  public func sums(of blocks: Range<Int>) -> [UInt64] { blocks.map { known($0)?.sum ?? 0 } }

  /// Whether none of the blocks is in the log.
  public func isAbsent(_ blocks: Range<Int>) -> Bool {
    !blocks.contains { outsourced[$0] || kept[$0] }
  }

  /// Whether the log alone has the newest content of one of them.
  public func isOutsourced(_ blocks: Range<Int>) -> Bool { blocks.contains { outsourced[$0] } }
}
