import DiskStrategy
import HostIO

/// A part of the log for the copier, and what the data of its pieces' blocks sum up to.
struct LogPart: Sendable {
  let read: SurrogateIndex.TailRead
  fileprivate let sums: [[UInt64]]
  fileprivate let link: SurrogateLink

  var byteCount: Int { read.unitCount * SurrogateLink.unitByteCount }
}

/// What is read of the log in its own order, when the original has been copied.
extension OutsourcedStore {
  enum LogLook: Sendable {
    case part(LogPart)
    case nothing(before: UInt64)
    case end
  }

  /// The next part of the log that has something wanted; none of a log that gives back what it has.
  ///
  /// What is said holds for as long as the caller keeps the lock under which writers say that blocks change: a write that
  /// ends later says so once more, and what was read here counts for nothing.
  func tail(from unit: UInt64, wanted: (Int) -> Bool) -> LogLook {
    guard isInUse else { return .end }
    return state.read { state in
      guard state.mode == .open, let link = state.link else { return .end }
      switch state.index.tail(from: unit, wanted: wanted) {
      case .end: return .end
      case .nothing(let before): return .nothing(before: before)
      case .read(let read):
        let sums = read.pieces.map { state.index.sums(of: $0.blocks) }
        return .part(LogPart(read: read, sums: sums, link: link))
      }
    }
  }

  /// Reads a part of the log; says which of its pieces are what was written. What isn't has another place by now, or is
  /// lost: whoever wants it has to ask for the blocks.
  ///
  /// - Parameter buffer: holds the part.
  func read(_ part: LogPart, into buffer: PageBuffer) throws(StoreError) -> [Bool] {
    // SAFETY: the buffer is the caller's, for this call; the part is bounds-checked.
    try unsafe part.link.read(at: part.read.unit, into: buffer.part(0, part.byteCount))
    var sound: [Bool] = []
    for (piece, sums) in zip(part.read.pieces, part.sums) {
      let (start, count) = part.place(of: piece)
      let bytes = buffer.span(part.byteCount).extracting(start..<(start + count))
      sound.append(SurrogateRecord.blockSums(of: bytes) == sums)
    }
    return sound
  }
}

extension LogPart {
  /// Where a piece's data are in the part, in bytes.
  func place(of piece: SurrogateIndex.Piece) -> (start: Int, count: Int) {
    let size = SurrogateLink.unitByteCount
    guard case .log(let unit, _) = piece.place else { return (0, 0) }
    return (Int(unit - read.unit) * size, piece.blocks.count * size)
  }
}
