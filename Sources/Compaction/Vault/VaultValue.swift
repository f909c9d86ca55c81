/// What a snapshot is worth keeping for, for each byte that it takes.
///
/// A return saves about the snapshot's own size, so the size cancels. What is left is how much of it is likely
/// still to be right, which falls with its age (VeCycle found 50 to 70 % after two hours, 20 to 50 % after a
/// day), and how often the guest came back already: guests that commute go on commuting.
public struct VaultValue: Sendable, Hashable, Comparable {
  private static let firstHour: UInt64 = 3600

  /// In uses per second of age, times 2^32.
  private let score: UInt64
  /// Of two with one score, the larger one goes first.
  private let bytes: UInt64

  /// - Parameters:
  ///   - age: seconds since it was taken; less than 0 (a clock was set) counts as 0.
  ///   - uses: migrations that took pages of it.
  public init(age: Int64, uses: UInt64, bytes: UInt64) {
    let age = min(UInt64(max(age, 0)), UInt64.max >> 1)
    score = (min(uses, 1 << 30) + 1) << 32 / (age + Self.firstHour)
    self.bytes = bytes
  }

  /// The least is the first to go.
  public static func < (a: Self, b: Self) -> Bool {
    a.score == b.score ? a.bytes > b.bytes : a.score < b.score
  }
}
