/// What the ETA said in the course of a run, and how wrong it was once the end is known. Pure.
///
/// Bounded: when `lookCountMax` looks are there, every other one is dropped, and from then on looks are
/// taken half as often. So they stay spread evenly over a run of any length.
public struct EtaTrack: Sendable, Equatable {
  public static let lookCountMax = 32

  /// What was said at one instant.
  public struct Look: Sendable, Equatable {
    /// Milliseconds since the start of the run.
    public let atMs: UInt64
    /// As shown then; nil: no end could be named.
    public let etaMs, lowMs, highMs: UInt64?
  }

  /// By rising time, fewer than `lookCountMax`.
  public private(set) var looks: [Look] = []
  private var intervalMs: UInt64 = 100

  public init() {}

  /// Takes what is shown now, unless the last look is too close.
  public mutating func note(atMs: UInt64, etaMs: UInt64?, lowMs: UInt64?, highMs: UInt64?) {
    if let last = looks.last, atMs < last.atMs.addingSaturating(intervalMs) { return }
    looks.append(Look(atMs: atMs, etaMs: etaMs, lowMs: lowMs, highMs: highMs))
    guard looks.count >= Self.lookCountMax else { return }
    looks = looks.indices.filter { $0.isMultiple(of: 2) }.map { looks[$0] }
    intervalMs = intervalMs.addingSaturating(intervalMs)
  }

  /// How wrong a look was.
  public struct Judgement: Sendable, Equatable {
    public let look: Look
    /// The ETA less the time that was left, in milliseconds: above 0 where it promised too late.
    public let errorMs: Int64?
    /// Whether the end came within the band.
    public let isWithinBand: Bool?
  }

  /// The looks of a run that took `totalMs`.
  public func judged(totalMs: UInt64) -> [Judgement] {
    looks.filter { $0.atMs <= totalMs }.map { look in
      let left = totalMs - look.atMs
      let error = look.etaMs.map { Int64(clamping: $0) - Int64(clamping: left) }
      let isWithin = look.lowMs.map { $0 <= left && left <= look.highMs ?? .max }
      return Judgement(look: look, errorMs: error, isWithinBand: isWithin)
    }
  }
}

extension [EtaTrack.Judgement] {
  /// Mean error without its sign, in thousandths of the whole time; nil when no end was ever named.
  public func meanErrorPermille(totalMs: UInt64) -> UInt64? {
    let errors: [UInt64] = compactMap { $0.errorMs?.magnitude }
    guard !errors.isEmpty, totalMs > 0 else { return nil }
    let sum = errors.reduce(into: UInt64(0)) { $0 = $0.addingSaturating($1) }
    return (sum / UInt64(errors.count)).scaled(by: 1000, over: totalMs)
  }

  /// Share of the looks with a band within which the end came, in thousandths.
  public var withinBandPermille: UInt64? {
    let known = compactMap(\.isWithinBand)
    guard !known.isEmpty else { return nil }
    return UInt64(known.count { $0 } * 1000 / known.count)
  }

  /// Share of the looks that could name no end, in thousandths.
  public var unknownPermille: UInt64? {
    isEmpty ? nil : UInt64(count { $0.errorMs == nil } * 1000 / count)
  }
}
