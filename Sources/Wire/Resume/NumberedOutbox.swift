/// The sending half of a lane that survives its connections: frames in order, kept until the peer
/// has them.
///
/// Numbers count from 1 without gaps. After a break `resume` goes back to the first frame that the
/// peer has not got. Memory is the caller's to bound, by `byteCount`.
public struct NumberedOutbox: Sendable {
  /// A frame that is kept; its payload goes once the peer has it.
  public struct Frame: Sendable {
    public let number: UInt64
    public let type: FrameType
    public fileprivate(set) var payload: [UInt8]
  }

  /// The peer says that it has frames which it was never sent, or fewer than it said before.
  public struct Refusal: Error, Hashable, Sendable {
    public let received, sent, confirmed: UInt64
  }

  /// Bytes of payload that are kept.
  public private(set) var byteCount = 0
  private var frames: [Frame] = []
  /// Frames before this index are confirmed and gone soon.
  private var head = 0
  /// Next to be sent on the present connection.
  private var cursor = 0
  /// Frames before this index were sent on some connection.
  private var sentEnd = 0
  private var confirmed: UInt64 = 0
  private var lastNumber: UInt64 = 0

  public init() {}

  /// Keeps a frame under the next number; it goes out when `next` comes to it.
  public mutating func append(_ type: FrameType, _ payload: [UInt8]) {
    lastNumber += 1
    frames.append(Frame(number: lastNumber, type: type, payload: payload))
    byteCount += payload.count
  }

  /// The next frame to send; nil when all are on their way.
  public mutating func next() -> Frame? {
    guard cursor < frames.count else { return nil }
    defer {
      cursor += 1
      sentEnd = max(sentEnd, cursor)
    }
    return frames[cursor]
  }

  /// The peer has every frame up to `number`.
  public mutating func confirm(through number: UInt64) throws(Refusal) {
    let sent = confirmed + UInt64(sentEnd - head)
    guard number <= sent, number >= confirmed else {
      throw Refusal(received: number, sent: sent, confirmed: confirmed)
    }
    while confirmed < number {
      byteCount -= frames[head].payload.count
      frames[head].payload = []
      head += 1
      confirmed += 1
    }
    cursor = max(cursor, head)
    if head > 64, head * 2 > frames.count {
      frames.removeFirst(head)
      (cursor, sentEnd, head) = (cursor - head, sentEnd - head, 0)
    }
  }

  /// Goes on over a new connection, behind what the peer says it has.
  public mutating func resume(after number: UInt64) throws(Refusal) {
    try confirm(through: number)
    cursor = head
  }
}
