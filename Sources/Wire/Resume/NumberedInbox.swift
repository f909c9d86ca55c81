/// The receiving half of a lane that survives its connections: takes each frame once, in order.
public struct NumberedInbox: Sendable {
  /// What a frame is, by its number.
  public enum Arrival: Hashable, Sendable {
    case new
    /// Sent again after a break, though it had arrived.
    case duplicate
    /// A frame is missing before it: the peer broke the protocol.
    case gap
  }

  /// Every frame up to this one was taken.
  public private(set) var receivedThrough: UInt64 = 0

  public init() {}

  /// Takes a numbered frame in; only a new one moves `receivedThrough`, and only that is to be
  /// handled.
  public mutating func arrived(_ number: UInt64) -> Arrival {
    if number <= receivedThrough { return .duplicate }
    guard number == receivedThrough + 1 else { return .gap }
    receivedThrough = number
    return .new
  }
}
