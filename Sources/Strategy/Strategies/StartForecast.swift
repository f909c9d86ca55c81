public import Base

/// Whether `withinMs` can be kept at all, known before anything is sent. Pure.
///
/// The least that any strategy needs: stop at once and send all of RAM, or, where the guest may move
/// before its memory, the fixed cost of a pause; with the same margin that `DeadlineGuard` keeps.
public struct StartForecast: Sendable, Equatable {
  /// Milliseconds until the guest would run at the destination.
  public let leastMs: UInt64
  public let withinMs: UInt64?

  /// - Parameter wireBytesPerPage: what a page of this guest costs on the wire, on average.
  public init(
    _ constraints: MigrationConstraints, _ facts: EngineFacts, rate: ByteRate,
    wireBytesPerPage: UInt64
  ) {
    let ram = ByteCount(facts.ramPages.scaled(by: wireBytesPerPage, over: 1))
    let canPull = constraints.atDeadline == .postcopy && facts.canPull
    let passMs = canPull ? 0 : rate.milliseconds(for: ram)
    leastMs = DeadlineGuard.withMargin(passMs.addingSaturating(facts.pauseOverheadMs))
    withinMs = constraints.withinMs
  }

  public var isPossible: Bool { withinMs.map { leastMs <= $0 } ?? true }

  /// Why the migration is refused, in words; nil when it isn't.
  public var refusal: String? {
    guard let withinMs, !isPossible else { return nil }
    return "even a guest stopped at once would need \(Milliseconds.format(leastMs)) at this rate, "
      + "more than the \(Milliseconds.format(withinMs)) of --within"
  }
}
