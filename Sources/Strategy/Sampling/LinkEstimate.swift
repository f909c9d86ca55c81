public import Base

/// What a link carries, from bursts on its lanes as the other side saw them arrive. Pure.
public struct LinkEstimate: Sendable, Hashable {
  /// How much had arrived on one lane, and when on the receiver's clock.
  public struct Arrival: Sendable, Hashable {
    public let bytes, atUs: UInt64

    public init(bytes: UInt64, atUs: UInt64) { (self.bytes, self.atUs) = (bytes, atUs) }
  }

  /// The first part of the bursts fills buffers and finds the link's rate: one in so many of their time.
  private static let warmUpDivisor: UInt64 = 4

  /// All lanes together.
  public let rate: ByteRate
  /// The median, in microseconds.
  public let roundTripUs: UInt64

  /// Counts what arrived while all lanes were busy: one that goes on alone after the others gets their share,
  /// so rates over times of their own would add up to more than the link carries.
  ///
  /// - Parameter lanes: arrivals of each lane; none of a lane falls in time or bytes.
  /// - Returns: nil when nothing can be said: nothing arrived, or no round trip.
  public init?(_ lanes: [[Arrival]], roundTripsUs: [UInt64]) {
    let isInOrder = lanes.allSatisfy { lane in
      zip(lane, lane.dropFirst()).allSatisfy { $0.atUs <= $1.atUs && $0.bytes <= $1.bytes }
    }
    // A lane that came too late for more than its first frame says nothing.
    let lanes = lanes.filter { $0.count > 1 }
    let (begins, ends) = (lanes.compactMap { $0.first?.atUs }, lanes.compactMap { $0.last?.atUs })
    guard isInOrder, !roundTripsUs.isEmpty, var fromUs = begins.max(), var endedUs = ends.min(),
      let firstUs = begins.min(), let lastUs = ends.max(), firstUs < lastUs
    else { return nil }
    if fromUs < endedUs {
      fromUs += (endedUs - fromUs) / Self.warmUpDivisor
    } else {
      // Never busy together, on a link that is faster than they were: no less than they had one by one.
      (fromUs, endedUs) = (firstUs, lastUs)
    }
    let bytes = lanes.reduce(UInt64(0)) { sum, lane in
      sum.addingSaturating(
        Self.bytes(lane, atUs: endedUs).minusFloored(Self.bytes(lane, atUs: fromUs)))
    }
    let perSecond = bytes.scaled(by: 1_000_000, over: endedUs - fromUs)
    guard let rate = ByteRate(bytesPerSecond: perSecond) else { return nil }
    self.rate = rate
    roundTripUs = roundTripsUs.sorted()[roundTripsUs.count / 2]
  }

  /// What had arrived at an instant; before the first arrival and after the last as at these.
  private static func bytes(_ lane: [Arrival], atUs: UInt64) -> UInt64 {
    guard let next = lane.firstIndex(where: { $0.atUs >= atUs }) else {
      return lane.last?.bytes ?? 0
    }
    guard next > 0 else { return lane[0].bytes }
    let (before, after) = (lane[next - 1], lane[next])
    return before.bytes
      + (after.bytes - before.bytes)
      .scaled(by: atUs - before.atUs, over: max(after.atUs - before.atUs, 1))
  }
}
