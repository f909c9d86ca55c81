/// Decides at the destination when a frame may be applied (I4).
///
/// Frames arrive over several lanes in any order. The source gives each a sequence and a barrier
/// `after`; frames between two barriers touch different pages, so they may be applied at the same
/// time and in any order, and a newer version of a page is always behind a barrier that its older
/// version stands before.
///
/// Invariants: every sequence `<= appliedThrough` is applied; each frame becomes ready once.
public struct ApplyOrder: Sendable {
  /// What an honest source never does; the migration can't go on after it.
  public enum Refusal: Error, Hashable, Sendable {
    /// The frame was seen before.
    case duplicate(UInt64)
    /// More frames are open than an honest source sends ahead.
    case tooFarAhead(sequence: UInt64, appliedThrough: UInt64)
    /// Reported as applied, but never became ready.
    case notInProgress(UInt64)
  }

  /// Every frame up to and including this one is applied.
  public private(set) var appliedThrough: UInt64 = 0
  /// Frames that may be open (arrived or skipped) above `appliedThrough`.
  public let windowFrames: UInt64
  private var inProgress: Set<UInt64> = []
  private var applied: Set<UInt64> = []
  /// Ordered by `after`, so that the first is the first to become ready.
  private var parked: [(after: UInt64, sequence: UInt64)] = []
  private var parkedSequences: Set<UInt64> = []

  public init(windowFrames: UInt64 = 65536) { self.windowFrames = windowFrames }

  /// Frames that arrived and still wait for a barrier.
  public var parkedCount: Int { parked.count }

  /// Takes a frame in. True: apply it now. False: a later `finished` will name it.
  public mutating func arrived(sequence: UInt64, after: UInt64) throws(Refusal) -> Bool {
    guard sequence > appliedThrough, !applied.contains(sequence), !inProgress.contains(sequence),
      !parkedSequences.contains(sequence)
    else { throw .duplicate(sequence) }
    guard sequence - appliedThrough <= windowFrames else {
      throw .tooFarAhead(sequence: sequence, appliedThrough: appliedThrough)
    }
    guard after > appliedThrough else {
      inProgress.insert(sequence)
      return true
    }
    // Barriers rise with the sequence, so the place is near the end.
    let index = (parked.lastIndex { $0.after <= after }).map { $0 + 1 } ?? 0
    parked.insert((after, sequence), at: index)
    parkedSequences.insert(sequence)
    return false
  }

  /// A frame has been applied; returns the frames that became ready by it, oldest barrier first.
  public mutating func finished(_ sequence: UInt64) throws(Refusal) -> [UInt64] {
    guard inProgress.remove(sequence) != nil else { throw .notInProgress(sequence) }
    applied.insert(sequence)
    while applied.remove(appliedThrough + 1) != nil { appliedThrough += 1 }
    var ready: [UInt64] = []
    while let first = parked.first, first.after <= appliedThrough {
      parked.removeFirst()
      parkedSequences.remove(first.sequence)
      inProgress.insert(first.sequence)
      ready.append(first.sequence)
    }
    return ready
  }
}
