import Base

/// The highest rate of the last moments: of at least `halfMs` milliseconds, of at most twice as many. Pure.
struct RecentBest: Sendable, Equatable {
  /// At least 1.
  let halfMs: UInt64
  private var earlier: ByteRate?
  private var current: ByteRate?
  private var currentFromMs: UInt64?

  init(halfMs: UInt64) { self.halfMs = max(halfMs, 1) }

  /// Nil when none was known in these moments.
  var rate: ByteRate? {
    guard let earlier, let current else { return current ?? earlier }
    return max(earlier, current)
  }

  mutating func note(_ rate: ByteRate?, nowMs: UInt64) {
    let fromMs = currentFromMs ?? nowMs
    if currentFromMs == nil || nowMs >= fromMs.addingSaturating(halfMs) {
      let isLongAgo = nowMs >= fromMs.addingSaturating(halfMs).addingSaturating(halfMs)
      (earlier, current, currentFromMs) = (isLongAgo ? nil : current, nil, nowMs)
    }
    guard let rate else { return }
    current = current.map { max($0, rate) } ?? rate
  }
}
