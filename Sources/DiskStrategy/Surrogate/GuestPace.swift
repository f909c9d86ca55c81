/// How fast a copier may go so that the guest hardly feels it: the guest's latency beside that of the same guest
/// while nothing is copied. Pure; time and totals are arguments.
///
/// A short rest at the beginning, and one every `quietEveryMs`, says what the guest's requests take when they are
/// alone. Between the rests the rate rises by steps while they take little longer, and falls by a quarter when
/// they do. Below `leastRate` it never falls, so a copy always ends.
public struct GuestPace: Sendable, Equatable {
  /// A judgement needs so much time, and so many requests, unless there are none for longer; in milliseconds.
  static let windowMs: UInt64 = 100
  static let windowMsMax: UInt64 = 400
  static let requestsMin: UInt64 = 8
  /// How long a rest is, how long after its beginning requests count, and when the next one is due.
  static let quietMs: UInt64 = 250
  static let settleMs: UInt64 = 50
  static let quietEveryMs: UInt64 = 8000
  /// Bytes per second: where it begins, what it never falls below, its smallest step.
  static let firstRate: UInt64 = 16 << 20
  static let leastRate: UInt64 = 1 << 20
  static let step: UInt64 = 2 << 20
  static let mostRate: UInt64 = 64 << 30
  /// Below this a difference is the clock's and the scheduler's, in microseconds.
  static let jitterUs: UInt64 = 20

  /// What has happened since some beginning.
  public struct Totals: Sendable, Equatable {
    /// The guest's requests, and the sum of what they took, in microseconds.
    public var requests, latencyUs: UInt64
    /// What the copier has read, in bytes.
    public var copiedBytes: UInt64

    public init(requests: UInt64, latencyUs: UInt64, copiedBytes: UInt64) {
      (self.requests, self.latencyUs, self.copiedBytes) = (requests, latencyUs, copiedBytes)
    }
  }

  /// By how much longer the guest's requests may take, in percent.
  public let slackPercent: UInt64
  /// What they take when nothing is copied, in microseconds; nil: not known.
  public private(set) var baselineUs: UInt64?
  private var rate = Self.firstRate
  private var isQuiet = true
  private struct Window: Sendable, Equatable {
    var ms: UInt64
    var totals: Totals
  }
  private var window: Window?
  private var quietAtMs: UInt64 = 0

  /// `slackPercent` is 1000 at most.
  public init(slackPercent: UInt64 = 15) { self.slackPercent = min(slackPercent, 1000) }

  /// What the copier may read, in bytes per second.
  public var bytesPerSecond: UInt64 { isQuiet ? 0 : rate }

  /// Looks at the totals; called often.
  public mutating func look(nowMs: UInt64, _ totals: Totals) {
    guard let start = window else { return open(nowMs, totals) }
    guard start.ms <= nowMs else {
      // What was under way before the rest began doesn't count.
      window = Window(ms: start.ms, totals: totals)
      return
    }
    let passedMs = nowMs - start.ms
    let requests = totals.requests.subtractingCapped(start.totals.requests)
    let spentUs = totals.latencyUs.subtractingCapped(start.totals.latencyUs)
    let meanUs = requests == 0 ? 0 : spentUs / requests
    if isQuiet {
      guard passedMs >= Self.quietMs else { return }
      if requests >= Self.requestsMin {
        // One rest may be an accident.
        baselineUs = baselineUs.map { ($0 * 3 + meanUs) / 4 } ?? min(meanUs, 1 << 40)
      }
      (isQuiet, quietAtMs) = (false, nowMs + Self.quietEveryMs)
    } else {
      let isJudged = requests >= Self.requestsMin && passedMs >= Self.windowMs
      guard isJudged || passedMs >= Self.windowMsMax else { return }
      let copied = min(totals.copiedBytes.subtractingCapped(start.totals.copiedBytes), 1 << 50)
      judge(requests, meanUs, usedBytes: copied, passedMs)
      // A guest that has just become busy is listened to at once.
      let isUnknown = baselineUs == nil && requests >= Self.requestsMin
      isQuiet = nowMs >= quietAtMs || isUnknown
    }
    open(nowMs, totals)
  }

  private mutating func open(_ nowMs: UInt64, _ totals: Totals) {
    window = Window(ms: nowMs + (isQuiet ? Self.settleMs : 0), totals: totals)
  }

  private mutating func judge(
    _ requests: UInt64, _ meanUs: UInt64, usedBytes: UInt64, _ passedMs: UInt64
  ) {
    // What isn't used can't be judged: a rate far above it would take long to come down.
    let used = usedBytes * 1000 / max(passedMs, 1)
    let mayRise = used >= rate / 2
    guard requests >= Self.requestsMin, let baselineUs else {
      if mayRise { rate = min(rate * 2, Self.mostRate) }
      return
    }
    let limit = baselineUs + max(baselineUs * slackPercent / 100, Self.jitterUs)
    if meanUs > limit {
      rate = max(min(rate, max(used, Self.leastRate)) / 4 * 3, Self.leastRate)
    } else if mayRise {
      rate = min(rate + max(Self.step, rate / 16), Self.mostRate)
    }
  }
}
