public import Base

/// A rate limit over all lanes: `--bandwidth`, or a migration's share of the link. Time is an argument, in microseconds.
public struct TokenBucket: Sendable {
  public private(set) var rate: ByteRate
  /// Bytes that may be sent in one go after a pause: 20 ms worth, at least one full batch.
  private var burst: UInt64
  private var level: UInt64
  /// Bytes let through that are not earned yet.
  private var debt: UInt64 = 0
  private var updatedAtUs: UInt64

  /// Begins full: the first burst passes without a wait.
  public init(rate: ByteRate, nowUs: UInt64) {
    self.rate = rate
    burst = Self.burst(at: rate)
    level = burst
    updatedAtUs = nowUs
  }

  /// Takes `bytes` and returns how long to wait before sending them, in microseconds.
  ///
  /// The level may go into debt, which the wait pays off; so any size is served in turn.
  public mutating func take(_ bytes: UInt64, nowUs: UInt64) -> UInt64 {
    earn(until: nowUs)
    if bytes <= level {
      level -= bytes
      return 0
    }
    debt += bytes - level
    level = 0
    return debt * 1_000_000 / rate.bytesPerSecond
  }

  /// From `nowUs` on; waits that were given out before stay as they are.
  public mutating func setRate(_ rate: ByteRate, nowUs: UInt64) {
    guard rate != self.rate else { return }
    earn(until: nowUs)
    self.rate = rate
    burst = Self.burst(at: rate)
    level = min(level, burst)
  }

  /// Whether something that was let through is not earned yet.
  public mutating func isBehind(nowUs: UInt64) -> Bool {
    earn(until: nowUs)
    return debt > 0
  }

  private static func burst(at rate: ByteRate) -> UInt64 {
    max(rate.bytesPerSecond / 50, 1 << 20)
  }

  private mutating func earn(until nowUs: UInt64) {
    let elapsed = nowUs > updatedAtUs ? nowUs - updatedAtUs : 0
    let earned = elapsed.multipliedReportingOverflow(by: rate.bytesPerSecond)
    if earned.overflow {
      (level, debt) = (burst, 0)
    } else {
      credit(earned.partialValue / 1_000_000)
    }
    updatedAtUs = max(updatedAtUs, nowUs)
  }

  private mutating func credit(_ bytes: UInt64) {
    let paid = min(debt, bytes)
    debt -= paid
    level = min(burst, level + (bytes - paid))
  }
}
