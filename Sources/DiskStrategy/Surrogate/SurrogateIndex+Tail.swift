import Base

/// Reading what is only in the log in the log's own order: what was written one after the other lies there side by side,
/// wherever on the disk it belongs. In the disk's order each block would cost the surrogate's head a way of its own.
extension SurrogateIndex {
  /// Units of one read: 256 KiB.
  public static let tailUnitsMax = DiskGeometry.chunkBlockCount
  /// Segments that one call looks into.
  private static let tailLooksMax = 8

  /// A part of the log that is read as a whole, with what lies between the pieces.
  public struct TailRead: Sendable, Hashable {
    /// The first piece begins here.
    public let unit: UInt64
    /// At most `tailUnitsMax`.
    public let unitCount: Int
    /// Data that are the newest of their blocks, in the log's order. None is empty, and no block is in two of them.
    public let pieces: [Piece]
  }

  /// What a look has found.
  public enum TailLook: Sendable, Hashable {
    /// The next look begins behind it.
    case read(TailRead)
    /// Nothing before this unit.
    case nothing(before: UInt64)
    /// Nothing up to the log's end.
    case end
  }

  /// The first part at or behind a unit with data that are wanted and only here.
  ///
  /// Records without data, and what the original has, too, aren't looked for.
  public func tail(from unit: UInt64, wanted isWanted: (Int) -> Bool) -> TailLook {
    let count = UInt64(Self.segmentUnitCount)
    guard unit < UInt64(segmentsUsed) * count else { return .end }
    let first = Int(unit / count)
    for segment in first..<min(first + Self.tailLooksMax, segmentsUsed) {
      guard segments[segment].outsourced > 0 else { continue }
      let found = newest(of: segment, from: unit, isWanted)
      if let start = found.first?.unit { return .read(Self.part(found, from: start)) }
    }
    let next = first + Self.tailLooksMax
    return next < segmentsUsed ? .nothing(before: UInt64(next) * count) : .end
  }

  private struct Newest {
    let block: Int
    let unit, sequence: UInt64
  }

  /// Blocks whose newest data a segment has, in the order in which they lie there. (Records are in the order in which
  /// they were committed.)
  private func newest(
    of segment: Int, from unit: UInt64, _ isWanted: (Int) -> Bool
  ) -> [Newest] {
    var found: [Newest] = []
    for record in segments[segment].records where record.kind == .data {
      for block in record.blocks {
        guard outsourced[block], let place = known(block), place.sequence == record.sequence,
          let data = place.unit, data >= unit, isWanted(block)
        else { continue }
        found.append(Newest(block: block, unit: data, sequence: place.sequence))
      }
    }
    return found.sorted { $0.unit < $1.unit }
  }

  private static func part(_ found: [Newest], from start: UInt64) -> TailRead {
    var (pieces, end): ([Piece], UInt64) = ([], start)
    for one in found where one.unit < start + UInt64(tailUnitsMax) {
      end = one.unit + 1
      if let last = pieces.last, case .log(let unit, one.sequence) = last.place,
        last.blocks.upperBound == one.block, unit + UInt64(last.blocks.count) == one.unit
      {
        pieces[pieces.count - 1] = Piece(
          blocks: last.blocks.lowerBound..<(one.block + 1), place: last.place)
      } else {
        let place = Piece.Place.log(unit: one.unit, sequence: one.sequence)
        pieces.append(Piece(blocks: one.block..<(one.block + 1), place: place))
      }
    }
    return TailRead(unit: start, unitCount: Int(end - start), pieces: pieces)
  }
}
