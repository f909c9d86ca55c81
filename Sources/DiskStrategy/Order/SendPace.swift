/// A bound on bytes per second, as a bucket that fills with time. Pure.
public struct SendPace: Sendable, Equatable {
  /// What may go at once after a pause, in milliseconds of the rate.
  public let burstMs: UInt64
  /// nil: no bound; 0: nothing may go.
  public private(set) var bytesPerSecond: UInt64?
  private var credit: Int64 = 0
  private var filledUs: UInt64?

  /// The bucket is empty at first, but not in debt: with a rate above 0 the first send may go at
  /// once.
  public init(bytesPerSecond: UInt64?, burstMs: UInt64 = 100) {
    (self.bytesPerSecond, self.burstMs) = (bytesPerSecond, burstMs)
  }

  /// Another bound, from now on.
  public mutating func setRate(_ bytesPerSecond: UInt64?) { self.bytesPerSecond = bytesPerSecond }

  /// Whether something may be sent now; what it takes is told by `spend`.
  public mutating func mayGo(nowUs: UInt64) -> Bool {
    guard let bytesPerSecond else { return true }
    guard bytesPerSecond > 0 else {
      filledUs = nowUs
      return false
    }
    let most = Int64(clamping: max(bytesPerSecond / 1000 * burstMs, 1))
    let passedUs = min(nowUs - min(filledUs ?? nowUs, nowUs), 10_000_000)
    let gained = bytesPerSecond.multipliedFullWidth(by: passedUs)
    let bytes = UInt64(1_000_000).dividingFullWidth((min(gained.high, 999_999), gained.low))
      .quotient
    // Below a byte's time the clock is left where it was.
    if filledUs == nil || bytes > 0 {
      filledUs = nowUs
      let sum = credit.addingReportingOverflow(Int64(clamping: bytes))
      credit = sum.overflow ? most : min(sum.partialValue, most)
    }
    return credit >= 0
  }

  /// Takes what was sent, whether `mayGo` was asked or not; the debt is paid by waiting.
  public mutating func spend(_ bytes: UInt64) {
    guard bytesPerSecond != nil else { return }
    credit -= Int64(clamping: bytes)
  }
}
