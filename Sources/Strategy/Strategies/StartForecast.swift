public import Base

/// Whether `withinMs` can be kept at all, known before much is sent. Pure.
///
/// The least that any strategy needs: stop at once and send all of RAM, or, where the guest may move
/// before its memory, the fixed cost of a pause; with the same margin that `DeadlineGuard` keeps. What went by
/// before (the destination's start, disks) counts as well.
public struct StartForecast: Sendable, Equatable {
  /// Milliseconds from now until the guest would run at the destination.
  public let leastMs: UInt64
  public let withinMs: UInt64?
  /// Of `withinMs`, what went by already, in milliseconds.
  public let elapsedMs: UInt64

  /// - Parameters:
  ///   - wireBytesPerPage: what a page of this guest costs on the wire, on average.
  ///   - elapsedMs: since the migration was asked for.
  ///   - arrivedBytes: what the destination has of RAM, as it crossed the wire.
  public init(
    _ strategy: StrategyName, _ constraints: MigrationConstraints, _ facts: EngineFacts,
    rate: ByteRate, wireBytesPerPage: UInt64, elapsedMs: UInt64 = 0, arrivedBytes: UInt64 = 0
  ) {
    let ram = facts.ramPages.scaled(by: wireBytesPerPage, over: 1).minusFloored(arrivedBytes)
    let pulls = DeadlineGuard.mayPull(strategy, constraints, facts)
    let passMs = pulls ? 0 : rate.milliseconds(for: ByteCount(ram))
    leastMs = DeadlineGuard.withMargin(passMs.addingSaturating(facts.pauseOverheadMs))
    (withinMs, self.elapsedMs) = (constraints.withinMs, elapsedMs)
  }

  /// True also without a `withinMs`.
  public var isPossible: Bool {
    withinMs.map { leastMs.addingSaturating(elapsedMs) <= $0 } ?? true
  }

  /// Why the migration is refused, in words; nil when it isn't.
  public var refusal: String? {
    guard let withinMs, !isPossible else { return nil }
    let gone = elapsedMs == 0 ? "" : ", of which \(Milliseconds.format(elapsedMs)) have gone by"
    return "even a guest stopped at once would need \(Milliseconds.format(leastMs)) at this rate, "
      + "more than the \(Milliseconds.format(withinMs)) of --within" + gone
  }
}
