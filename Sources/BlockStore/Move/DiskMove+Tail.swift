import Base
import DiskStrategy
import HostIO

/// Where the copier is in a surrogate's log: once through the log, then once through the disk for what else is needed,
/// and so on.
struct TailPlace: Sendable {
  private(set) var unit: UInt64 = 0
  /// The disk has its turn.
  private(set) var isOver = false
  /// Something was read on this way through the log.
  fileprivate var hasRead = false
  /// It can't be read; whoever reads the disk is told why.
  fileprivate var isOff = false

  /// The log has its turn again, from its beginning.
  mutating func begin() { (unit, isOver, hasRead) = (0, isOff, false) }

  fileprivate mutating func advance(to unit: UInt64) { self.unit = unit }
  fileprivate mutating func end() { isOver = true }
}

extension MoveState {
  /// Looks at the log before something else has its turn: each is short, but requests wait for it.
  private static let tailLooksMax = 4

  enum TailStep: Sendable {
    case part(LogPart)
    case notYet
    /// The disk has its turn.
    case over
  }

  /// The next part of the log; its pieces are on their way from now on.
  mutating func nextTail(of source: OutsourcedStore) -> TailStep {
    guard !tail.isOver, map.needed.population > map.sendingCount else { return .over }
    for _ in 0..<Self.tailLooksMax {
      switch source.tail(from: tail.unit, wanted: { isFree($0) }) {
      case .nothing(let before): tail.advance(to: before)
      case .end:
        if tail.hasRead { order.noteRound() }
        tail.end()
        return .over
      case .part(let part):
        tail.advance(to: part.read.unit + UInt64(part.read.unitCount))
        tail.hasRead = true
        take(part)
        return .part(part)
      }
    }
    return .notYet
  }

  /// Whether the destination lacks the block, and nobody is about to send it.
  private func isFree(_ block: Int) -> Bool { map.needed[block] && !map.isSending(block) }

  private mutating func take(_ part: LogPart) {
    var byteCount: UInt64 = 0
    for piece in part.read.pieces {
      map.begin(piece.blocks)
      byteCount += self.byteCount(piece.blocks)
    }
    turns.noteCopied(byteCount)
    noteRead(UInt64(part.byteCount))
  }

  /// The copier reads so many bytes.
  mutating func noteRead(_ byteCount: UInt64) {
    let cost = decision.readsTail ? max(byteCount, DiskMoveTerms.tailReadCost) : byteCount
    copierReads += 1
    copiedBytes += cost
    readPace.spend(cost)
  }

  /// The guest works on the same device, and may have to wait for what is on its way.
  func mayReadTail(_ nowUs: UInt64) -> Bool {
    guard queuedBytes < DiskMoveTerms.tailQueueBytesMax else { return false }
    return copierReads < DiskMoveTerms.tailReadsMax || !order.isGuestBusy(nowUs: nowUs)
  }
}

/// Copying what a surrogate has.
extension DiskMove {
  /// Reads a part of the log; its pieces go to the queue of what is sent from memory, for they belong to different places.
  func copy(_ part: LogPart, _ buffer: PageBuffer, _ link: MoveLink) {
    let pieces = part.read.pieces
    var sound: [Bool]?
    do throws(StoreError) { sound = try source.read(part, into: buffer) } catch { sound = nil }
    var runs: [ForwardedRun] = []
    var others = pieces
    if let sound {
      runs = zip(pieces, sound).filter { $0.1 }.map { run($0.0, of: part, buffer) }
      others = zip(pieces, sound).filter { !$0.1 }.map { $0.0 }
    }
    let (kept, left, isRead) = (runs, others, sound != nil)
    state.update { state in
      state.copierReads -= 1
      if !isRead { state.tail.isOff = true }
      for piece in left { state.end(piece.blocks, arrived: false, over: link) }
      let isWanted = state.openLink?.id == link.id && state.stage.isMoving
      for run in kept {
        guard isWanted else {
          state.end(run.blocks, arrived: false, over: link)
          continue
        }
        state.queue.append(run)
        state.queuedBytes += run.byteCount
        state.readBytes += UInt64(run.byteCount)
      }
    }
  }

  private func run(
    _ piece: SurrogateIndex.Piece, of part: LogPart, _ buffer: PageBuffer
  ) -> ForwardedRun {
    let range = geometry.bytes(of: piece.blocks)
    // The disk's last block may be shorter than its place in the log.
    let data = PageBuffer(byteCount: Int(range.upperBound - range.lowerBound))
    let start = part.place(of: piece).start
    data.store(buffer.span(start + data.byteCount).extracting(start...), at: 0)
    return ForwardedRun(blocks: piece.blocks, data: data, isCopied: true)
  }
}
