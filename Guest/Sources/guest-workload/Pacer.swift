import Glibc

/// Nanoseconds of the monotonic clock; goes on where it was after a migration.
func monotonicNs() -> UInt64 {
  var time = timespec()
  _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

func sleepMs(_ ms: Int) {
  var time = timespec(tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000)
  _ = unsafe nanosleep(&time, nil)
}

/// How many of something are due, for a rate per second. Debt older than a quarter of a second is
/// forgotten: a guest that was paused does not have to catch up.
struct Pacer {
  /// nil: as many as can be done.
  let perSecond: UInt64?
  private var paidNs: UInt64

  init(perSecond: UInt64?, nowNs: UInt64) {
    (self.perSecond, paidNs) = (perSecond, nowNs)
  }

  /// Of pages, of which each thread has its share.
  init(mebibytesPerSecond: Int?, threads: Int, nowNs: UInt64) {
    self.init(
      perSecond: mebibytesPerSecond.map { UInt64($0) * 256 / UInt64(threads) }, nowNs: nowNs)
  }

  /// How many are due at `nowNs`, at most `limit`; counts them as done.
  mutating func due(nowNs: UInt64, limit: Int) -> Int {
    guard let rate = perSecond else { return limit }
    guard rate > 0, nowNs > paidNs else { return 0 }
    if nowNs - paidNs > 250_000_000 { paidNs = nowNs - 250_000_000 }
    let count = (nowNs - paidNs) * rate / 1_000_000_000
    let granted = min(count, UInt64(limit))
    paidNs += granted * 1_000_000_000 / rate
    return Int(granted)
  }
}

/// Which page of `0..<count` is written next.
struct Picker {
  let pattern: Options.Pattern
  let count: Int
  private var state: UInt64
  private var position = 0
  private let logCount: Double

  init(pattern: Options.Pattern, count: Int, seed: UInt64) {
    (self.pattern, self.count, state) = (pattern, count, seed)
    logCount = log(Double(count) + 1)
  }

  mutating func random() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  mutating func next() -> Int {
    switch pattern {
    case .sequential:
      position = (position + 1) % count
      return position
    case .uniform:
      return Int(random() % UInt64(count))
    case .zipf:
      // Log-uniform ranks are Zipf's law with exponent 1.
      let unit = Double(random() >> 11) / 9_007_199_254_740_992
      return scattered(min(UInt64(exp(unit * logCount)), UInt64(count)) - 1)
    case .hotspot:
      let hot = UInt64(max(count / 5, 1))
      guard count > 5, random() % 5 == 0 else { return scattered(random() % hot) }
      return scattered(hot + random() % (UInt64(count) - hot))
    }
  }

  /// Where the page of a rank lies: spread over memory by a prime larger than any guest's page count.
  private func scattered(_ rank: UInt64) -> Int { Int(rank &* 4_294_967_311 % UInt64(count)) }
}
