import Base

/// Holds disks that move ahead of the guest's memory to the user's time. Pure.
///
/// As soon as it is known how fast they are copied, the migration is refused when what they hold would take longer than
/// what is left of `withinMs`. Holes cost nothing, and may all lie ahead: of disks of which nobody knows what they hold
/// nothing is foretold. A guest that writes, or a link that slows down, can make that wrong later: then the
/// copies are given up when no time is left for the guest to move in.
public struct DiskDeadline: Sendable {
  /// What is to become of the migration.
  public enum Verdict: Sendable, Equatable {
    case goOn
    /// They can't be there in time; the text says why, for people.
    case refuse(String)
    /// The time is over.
    case abandon(String)
  }

  /// How long copies are looked at before their rate is believed, in milliseconds: so much at most, and as a part of
  /// the time given.
  static let judgeAfterMs: UInt64 = 2000
  static let judgeParts: UInt64 = 4
  /// What has to be sent before the copying has begun: what is owed is known by then.
  static let begunBytes: UInt64 = 1 << 20

  private struct Look {
    let atMs: UInt64
    let owedBytes: UInt64
    let sentBytes: UInt64
  }

  private let withinMs: UInt64
  /// What the disks hold, in bytes; nil: not known of all.
  private let takenBytes: UInt64?
  /// What the guest itself needs at least, once its disks are there, in milliseconds.
  private let leastMs: UInt64
  private var first: Look?
  private var isJudged = false

  /// - Parameters:
  ///   - withinMs: from the request until the guest runs at the destination.
  ///   - takenBytes: what the disks hold, holes left out; nil: not known of all.
  ///   - facts: of the guest; only the cost of a pause counts.
  public init(
    withinMs: UInt64, takenBytes: UInt64?, _ facts: EngineFacts = EngineFacts(ramPages: 0)
  ) {
    (self.withinMs, self.takenBytes) = (withinMs, takenBytes)
    leastMs = DeadlineGuard.withMargin(facts.pauseOverheadMs)
  }

  /// - Parameters:
  ///   - elapsedMs: since the migration was asked for.
  ///   - owedBytes: of all disks, not copied yet or written again since.
  ///   - sentBytes: of all disks, what has gone to the destination so far.
  public mutating func look(elapsedMs: UInt64, owedBytes: UInt64, sentBytes: UInt64) -> Verdict {
    let leftMs = withinMs.minusFloored(elapsedMs).minusFloored(leastMs)
    guard leftMs > 0 else {
      return .abandon(
        "--within is about to run out, and \(ByteCount(owedBytes)) of the disks are not copied yet")
    }
    guard let first else {
      guard sentBytes >= Self.begunBytes else { return .goOn }
      first = Look(atMs: elapsedMs, owedBytes: owedBytes, sentBytes: sentBytes)
      return .goOn
    }
    let lengthMs = elapsedMs.minusFloored(first.atMs)
    guard !isJudged, lengthMs >= min(Self.judgeAfterMs, withinMs / Self.judgeParts) else {
      return .goOn
    }
    guard let takenBytes else { return .goOn }
    // The guest writes, and holes are passed at once: the better of the two rates counts.
    let done = max(
      first.owedBytes.minusFloored(owedBytes), sentBytes.minusFloored(first.sentBytes))
    guard done > 0, lengthMs > 0 else { return .goOn }
    isJudged = true
    let leftBytes = min(owedBytes, takenBytes.minusFloored(sentBytes))
    let needMs = leftBytes.scaled(by: lengthMs, over: done)
    guard needMs > leftMs else { return .goOn }
    return .refuse(
      "the \(ByteCount(leftBytes)) that are left of the disks would need "
        + "\(Milliseconds.format(needMs)) at the rate at which they are copied, more than the "
        + "\(Milliseconds.format(leftMs)) that are left of the \(Milliseconds.format(withinMs)) "
        + "of --within")
  }
}
