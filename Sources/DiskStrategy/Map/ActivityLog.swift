/// Which parts of a disk may have been written since its map was last known to be on stable storage
/// (as DRBD does it): after a crash of the whole host only these have to be taken for needed. Pure.
///
/// The driver puts the log itself on stable storage before the first write to a part.
public struct ActivityLog: Sendable, Equatable {
  /// Bytes of a part.
  public static let partByteCount: UInt64 = 4 << 20
  /// Parts that may be active at once.
  public static let capacity = 900
  /// Parts that leave together when it is full: one write of the log lets many in.
  static let leavingCount = 100

  /// Active parts, the one that was used longest ago first.
  public private(set) var parts: [UInt32] = []

  /// From a stored log, in its order; of more than `capacity` parts the last.
  public init(_ parts: [UInt32] = []) { self.parts = Array(parts.suffix(Self.capacity)) }

  /// What has to be stored, and in which order, before the write may begin.
  public enum Change: Sendable, Equatable {
    /// The log has the parts already.
    case none
    /// The log has new parts, and has to be stored before they are written to.
    case added
    /// Others have left for them, so the map has to be stored before the log.
    case replaced
  }

  /// The bytes are about to be written. More parts than fit count as one change each time.
  public mutating func touch(_ bytes: Range<UInt64>) -> Change {
    guard !bytes.isEmpty else { return .none }
    let wanted =
      UInt32(
        clamping: bytes.lowerBound / Self.partByteCount)...UInt32(
        clamping: (bytes.upperBound - 1) / Self.partByteCount)
    var change = Change.none
    for part in wanted.suffix(Self.capacity) {
      if let place = parts.lastIndex(of: part) {
        // Most writes go where the last ones went.
        if place != parts.count - 1 { parts.append(parts.remove(at: place)) }
        continue
      }
      if parts.count >= Self.capacity {
        parts.removeFirst(Self.leavingCount)
        change = .replaced
      } else if change == .none {
        change = .added
      }
      parts.append(part)
    }
    return change
  }
}
