import Agent
public import Base

/// Of guests that were moved at once: which of them this is, and what is true of all of them.
public struct Together: Codable, Sendable, Equatable {
  public var count: Int
  /// From 0.
  public var member: Int
  /// From the first request until the last guest was moved; nil when not all of them were.
  @OrNull public var totalMs: UInt64?
  /// On the link, both directions; nil where there is none. Of each guest alone only the method itself can tell.
  @OrNull public var wireBytes: UInt64?

  /// Writes it into the trials of guests that were moved in `lengthMs`. A guest alone has all of the link's bytes.
  static func share(_ trials: inout [Trial], lengthMs: UInt64, wireBytes: UInt64?) {
    guard trials.count > 1 else {
      if let wireBytes { trials[0].record.wireBytes = wireBytes }
      return
    }
    let areDone = trials.allSatisfy { $0.record.outcome == .completed }
    // A control is watched, and has no end of a move.
    let areMoves = trials.allSatisfy { $0.record.totalMs != nil }
    for index in trials.indices {
      trials[index].together = Together(
        count: trials.count, member: index, totalMs: areDone && areMoves ? lengthMs : nil,
        wireBytes: wireBytes)
    }
  }
}
