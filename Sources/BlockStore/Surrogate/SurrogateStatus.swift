public import Base

/// A surrogate at one instant.
public struct SurrogateStatus: Sendable, Codable, Hashable {
  /// What the surrogate does for the disk now.
  public enum Phase: String, Sendable, Codable {
    /// Requests that began before are waited for.
    case opening
    /// It takes the guest's writes.
    case inUse
    /// The guest's writes go to the disk again, and what is only here goes back there.
    case returning
  }
  /// Path or URI.
  public let place: String
  public let phase: Phase
  /// The newest content of so many bytes of the disk is only here.
  public let onlyHereBytes: UInt64
  /// Copies of what the guest reads often.
  public let copiedBytes: UInt64
  /// Requests of the guest's that were served here, at least in part.
  public let reads, writes: UInt64
  /// Writes that went to the disk though it was in use: it was full.
  public let refusedWrites: UInt64
  /// Bytes that have gone back to the disk.
  public let returnedBytes: UInt64
  /// Why it isn't used any more, or can't be given back yet.
  @OrNull public var problem: String?
}
