/// What the link carries: measured while it was the limit, else more than was seen so far.
struct LinkGuess: Sendable, Equatable {
  /// Decisions for which a measurement is believed at first (2 s of them), and at most.
  static let trustMin: UInt64 = 20
  static let trustMax: UInt64 = 320

  /// Wire bytes a second, at most 2^50; 0: nothing is known.
  private(set) var bytesPerSecond: UInt64 = 0
  /// The last measurement, and for how many decisions it is believed, of those how many are left.
  private var measured: UInt64 = 0
  private var trust = trustMin
  private var trustLeft: UInt64 = 0

  /// - Parameters:
  ///   - delivered: what went over, in bytes a second.
  ///   - isLimit: the link had no room for more.
  mutating func note(_ delivered: UInt64, isLimit: Bool) {
    let delivered = min(delivered, 1 << 50)
    guard isLimit else {
      if trustLeft > 0 {
        trustLeft -= 1
        bytesPerSecond = max(bytesPerSecond, delivered)
      } else {
        // It carries more than it got; how much more shows when somebody tries.
        bytesPerSecond = min(max(bytesPerSecond + bytesPerSecond / 2, delivered * 2), 1 << 50)
      }
      return
    }
    // A try that found the same as before need not be made again soon.
    let isSame = delivered < measured + measured / 4 && delivered + measured / 4 > measured
    if trustLeft == 0 { trust = isSame ? min(trust * 2, Self.trustMax) : Self.trustMin }
    trustLeft = trust
    bytesPerSecond = isSame ? (measured + delivered) / 2 : delivered
    measured = bytesPerSecond
  }
}
