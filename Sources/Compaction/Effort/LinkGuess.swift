/// What the link carries: measured while it was the limit, else more than was seen so far.
///
/// Lanes also have enough when the destination has: it writes pages whole, however small they came. So where few bytes
/// went over, and as much memory as the link carries unpacked, the destination is taken to be the limit, for a second: a
/// link that has become slow shows in the end.
///
/// `SendWindow` (`Wire`) answers another question, and neither does for the other: it wants what was *applied*, so as not to
/// put more on the way than that, and may stay below what the link could carry. Here that would be the end of it: as
/// long as nobody tries with less effort, nobody sees that the link has room. So this one goes up by guesses, from what was
/// handed to the lanes, and comes down when a try finds the end.
struct LinkGuess: Sendable, Equatable {
  /// Decisions for which one measurement is believed (0.3 s of them), and two alike (2 s of them), and at most. The first
  /// ones are of connections that are only coming up to speed: who packs as for a slow link would be none the wiser.
  static let trustFirst: UInt64 = 3
  static let trustMin: UInt64 = 20
  static let trustMax: UInt64 = 320

  /// Wire bytes a second, at most 2^50; 0: nothing is known.
  private(set) var bytesPerSecond: UInt64 = 0
  /// The last measurement, and for how many decisions it is believed, of those how many are left.
  private var measured: UInt64 = 0
  /// Decisions for which less than before is put down to the destination.
  static let doubtMax: UInt64 = 10
  private var doubted: UInt64 = 0
  private var trust = trustFirst
  private var trustLeft: UInt64 = 0

  /// - Parameters:
  ///   - delivered: what went over, in bytes a second.
  ///   - covered: the memory that it was about, likewise.
  ///   - isLimit: the link had no room for more.
  mutating func note(_ delivered: UInt64, covered: UInt64 = 0, isLimit: Bool) {
    let delivered = min(delivered, 1 << 50)
    guard isLimit else {
      doubted = 0
      if trustLeft > 0 {
        trustLeft -= 1
        bytesPerSecond = max(bytesPerSecond, delivered)
      } else {
        // It carries more than it got; how much more shows when somebody tries.
        bytesPerSecond = min(max(bytesPerSecond + bytesPerSecond / 2, delivered * 2), 1 << 50)
      }
      return
    }
    guard delivered >= min(covered, bytesPerSecond) / 4 * 3 || doubted >= Self.doubtMax else {
      return doubted += 1
    }
    doubted = 0
    // A try that found the same as before need not be made again soon.
    let isSame = delivered < measured + measured / 4 && delivered + measured / 4 > measured
    if !isSame {
      trust = Self.trustFirst
    } else if trust < Self.trustMin {
      trust = Self.trustMin
    } else if trustLeft == 0 {
      trust = min(trust * 2, Self.trustMax)
    }
    trustLeft = trust
    bytesPerSecond = isSame ? (measured + delivered) / 2 : delivered
    measured = bytesPerSecond
  }
}
