public import Base
public import DiskStrategy

/// What is asked of a move.
public struct MoveWish: Sendable {
  public var method = MoveMethod.mirror
  public var ending = MoveEnding.switching
  /// Whatever it is told later, the guest's requests stay here: whoever began it takes the guest away, or goes on here.
  public var staysHere = false
  /// nil: no bound.
  public var bytesPerSecond: UInt64?
  /// Longest that the guest's writes shall wait at the end, in milliseconds.
  public var pauseLimitMs: UInt64 = 300
  /// For `waio`, and only for it.
  public var surrogate: SurrogateWish?
  /// For `snapmig`, and only for it.
  public var snapshot: SnapshotWish?
  /// For `incremental`, and only for it.
  public var base: BaseWish?
  /// The same, in place of `base`.
  public var bitmap: BitmapWish?

  public init() {}
}

/// What happens when both sides are the same.
public enum MoveEnding: String, Sendable, Codable, CaseIterable {
  /// The guest's requests go to the destination from then on.
  case switching = "switch"
  /// The destination keeps the disk as it is at that instant; the guest goes on here.
  case copy
  /// Both sides are kept the same until something else is asked for.
  case wait
}

/// Where a move is.
public enum MovePhase: String, Sendable, Codable, CaseIterable {
  /// There is no connection to the destination.
  case connecting
  case copying
  /// The guest's writes go to both sides.
  case mirroring
  /// The guest's writes wait for the end.
  case finishing
  /// By wish, or because of what `problem` says; writes are remembered.
  case paused
  /// An earlier server's; nothing is sent before it is moved again.
  case interrupted
  /// The guest's requests go to the destination.
  case switched
  /// The destination has a copy.
  case copied
  case cancelled

  /// Nothing more happens by itself: copied, cancelled or switched.
  public var isOver: Bool { self == .copied || self == .cancelled || self == .switched }
}

/// A move at one instant.
public struct MoveStatus: Sendable, Codable, Hashable {
  public var disk: String
  /// URI.
  public var destination: String
  /// nil, as `ending`: an earlier server's move, of which only the map is known.
  @OrNull public var method: MoveMethod?
  @OrNull public var ending: MoveEnding?
  public var phase: MovePhase
  public var diskBytes: UInt64
  /// What the destination lacks.
  public var neededBytes: UInt64
  /// What has arrived, whatever it was sent for, and what of that went as data.
  public var arrivedBytes, wireBytes: UInt64
  /// Read from the disk for the move alone.
  public var readBytes: UInt64
  /// Sent from memory because the guest read or wrote it.
  public var forwardedBytes: UInt64
  /// Written to both sides at once.
  public var mirroredBytes: UInt64
  /// Times that the copier has come to the end of the disk.
  public var roundCount: UInt64
  /// What arrives, over the last seconds; nil: not known.
  @OrNull public var bytesPerSecond: UInt64?
  /// Until the destination lacks nothing, at that pace; nil: nothing moves now, or no end can be
  /// named.
  @OrNull public var etaMs: UInt64?
  /// Connections that were opened, the first one included.
  public var connectionCount: UInt64
  /// How long the guest's writes waited at the end, in microseconds; nil: not yet.
  @OrNull public var pauseUs: UInt64?
  /// What backups gave in place of the disk, in bytes; nil: none were asked.
  @OrNull public var backupBytes: UInt64?
  /// Reads of backups that weren't what the manifest says.
  @OrNull public var backupRefusals: UInt64?
  /// What an older copy at the destination had already, in bytes; nil: there was none.
  @OrNull public var skippedBytes: UInt64?
  /// Parts of that copy that weren't what its manifest says.
  @OrNull public var baseRefusals: UInt64?
  /// What is in a surrogate, also after the move until all of it is back; nil: there is none.
  @OrNull public var surrogate: SurrogateStatus?
  /// Why nothing moves.
  @OrNull public var problem: String?
}

/// Why a move can't be begun, or told to do something. Each text names the remedy, where there is one.
public struct MoveError: Error, Sendable, Hashable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
