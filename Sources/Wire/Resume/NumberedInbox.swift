/// The receiving half of a lane that survives its connections: takes each frame once, in order.
public struct NumberedInbox: Sendable {
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

  public mutating func arrived(_ number: UInt64) -> Arrival {
    if number <= receivedThrough { return .duplicate }
    guard number == receivedThrough + 1 else { return .gap }
    receivedThrough = number
    return .new
  }
}
