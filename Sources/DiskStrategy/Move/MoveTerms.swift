/// How a disk is moved.
public enum MoveMethod: String, Sendable, Codable, CaseIterable {
  /// Rounds over what was written since the round before; what is left at the end while the guest's
  /// writes wait.
  case precopy
  /// The guest's writes go to both sides from the beginning, and one round does for the rest.
  case mirror
  /// What the guest reads or writes is sent from memory, and the copier goes on where the guest is.
  case iofollow
  /// The guest's writes and what it reads often go to a surrogate; the original is read in sequence, no faster
  /// than the guest likes, and what the surrogate has moves last.
  case waio
  /// As `precopy`, but what hasn't changed since a snapshot comes from backups of it.
  case snapmig
  /// As `precopy`, but the destination has an older copy: what is the same there isn't sent.
  case incremental
}

/// What becomes of the guest's requests while a disk moves.
public enum WriteHandling: Sendable, Equatable {
  /// Carried out here, and remembered.
  case note
  /// Carried out here, and sent from memory when that costs nothing.
  case forward
  /// Carried out at both sides before it is answered.
  case mirror
}

/// What a method wants now.
public struct MoveDecision: Sendable, Equatable {
  public var writes = WriteHandling.note
  /// What the guest reads is sent from memory.
  public var forwardsReads = false
  /// What lies around a small read of the guest's is read with it: the head is there.
  public var widensReads = false
  /// The copier goes where the guest is.
  public var followsGuest = false
  /// What the guest has written since the beginning isn't sent yet.
  public var defersWritten = false
  /// What the surrogate's log has is sent, in the log's order.
  public var readsTail = false
  /// The copier is no faster than the guest's latency allows.
  public var yieldsToGuest = false
  /// The guest's writes shall wait until the rest is there.
  public var freezes = false

  public init() {}
}

/// What a method decides from: the state of a move at one instant.
public struct MoveSample: Sendable, Equatable {
  /// Of a monotonic clock, in milliseconds.
  public var nowMs: UInt64
  /// Bytes that the destination lacks.
  public var neededBytes: UInt64
  public var diskBytes: UInt64
  /// Rounds that the copier has finished.
  public var roundCount: UInt64
  /// What the destination takes, in bytes per second; nil: not known yet.
  public var bytesPerSecond: UInt64?
  /// There is a connection.
  public var isConnected: Bool

  public init(
    nowMs: UInt64, neededBytes: UInt64, diskBytes: UInt64, roundCount: UInt64,
    bytesPerSecond: UInt64?, isConnected: Bool
  ) {
    (self.nowMs, self.neededBytes, self.diskBytes) = (nowMs, neededBytes, diskBytes)
    (self.roundCount, self.bytesPerSecond) = (roundCount, bytesPerSecond)
    self.isConnected = isConnected
  }

  /// How long sending all that is needed would take, in milliseconds; nil: not known.
  public var restMs: UInt64? {
    if neededBytes == 0 { return 0 }
    guard let bytesPerSecond, bytesPerSecond > 0 else { return nil }
    let (scaled, overflow) = neededBytes.multipliedReportingOverflow(by: 1000)
    return overflow ? .max : scaled / bytesPerSecond
  }
}

/// Bounds that a mover keeps, whatever its method.
public enum DiskMoveTerms {
  /// Runs of the copier's that are on the link at once while the guest's writes go to both sides: each of these stands
  /// behind what is there, and two keep the link busy.
  public static let mirroredSendsMax = 2
  /// Reads of the copier's that are under way at once while it follows a guest that is busy: each of these stands before what
  /// the guest asks for next, and what the guest reads needn't be read at all.
  public static let followingReadsMax = 1
  /// The same while what a surrogate has is copied and the guest is busy: the guest works on the same device.
  public static let tailReadsMax = 1
  /// What a read there counts for at least, in bytes, to whom bytes are what a device's time goes by: the head's way.
  public static let tailReadCost: UInt64 = 128 << 10
  /// What was read there and may wait to be sent, in bytes: a guest's write to both sides waits for it.
  public static let tailQueueBytesMax = 512 << 10
  /// Blocks that are read at once in the disk's order when each of them may lie elsewhere in the log.
  public static let scatteredBlocksMax = 8
}
