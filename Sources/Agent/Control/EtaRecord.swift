public import Base
public import Strategy

/// How right the ETA of a completed migration was, in the course of its time.
public struct EtaRecord: Codable, Sendable, Equatable {
  /// What was shown at one instant, and how wrong it was.
  public struct Look: Codable, Sendable, Equatable {
    /// Milliseconds since the start.
    public var atMs: UInt64
    /// Nil: no end could be named.
    @OrNull public var etaMs: UInt64?
    @OrNull public var lowMs: UInt64?
    @OrNull public var highMs: UInt64?
    /// The ETA less the time that was left: above 0 where it promised too late.
    @OrNull public var errorMs: Int64?
  }

  /// Spread evenly over the migration's time; at most `EtaTrack.lookCountMax`.
  public var looks: [Look]
  /// Mean error without its sign, in thousandths of the whole time.
  @OrNull public var meanErrorPermille: UInt64?
  /// Share of the looks whose band held the end, in thousandths.
  @OrNull public var withinBandPermille: UInt64?
  /// Share of the looks that could name no end, in thousandths.
  @OrNull public var unknownPermille: UInt64?

  /// - Parameter totalMs: how long the migration took; looks after that are left out.
  public init(_ track: EtaTrack, totalMs: UInt64) {
    let judged = track.judged(totalMs: totalMs)
    looks = judged.map { judgement in
      let look = judgement.look
      return Look(
        atMs: look.atMs, etaMs: look.etaMs, lowMs: look.lowMs, highMs: look.highMs,
        errorMs: judgement.errorMs)
    }
    meanErrorPermille = judged.meanErrorPermille(totalMs: totalMs)
    withinBandPermille = judged.withinBandPermille
    unknownPermille = judged.unknownPermille
  }

  /// The look next to an instant, in thousandths of the whole time.
  public func look(atPermille permille: UInt64, of totalMs: UInt64) -> Look? {
    let wanted = totalMs.multipliedReportingOverflow(by: permille).partialValue / 1000
    func distance(_ look: Look) -> UInt64 {
      look.atMs > wanted ? look.atMs - wanted : wanted - look.atMs
    }
    return looks.min { distance($0) < distance($1) }
  }
}
