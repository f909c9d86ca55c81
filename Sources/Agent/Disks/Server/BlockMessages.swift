public import BlockStore
public import DiskStrategy

/// A request to a server of disks: one JSON object on one line, one request per connection.
public struct BlockRequest: Codable, Sendable {
  /// What is asked for; most have a field of their own that says the rest.
  public enum Command: String, Codable, Sendable {
    case move, pause, resume, finish, cancel, status, snapshot, pull, lend
    /// The image was written to past the server, or is about to be.
    case bypass
  }

  /// Version of this protocol.
  public static let current = 1
  /// A line longer than this is no request and no answer.
  public static let bytesMax = 1 << 20

  /// Must equal `current`.
  public var block = current
  public var command: Command
  /// Name of the export, empty for the first one; for `status` nil means all.
  public var disk: String?
  /// For `move`.
  public var move: BlockMoveOrder?
  /// For `pull`.
  public var pull: BlockPullOrder?
  /// For `snapshot`: the path of the manifest.
  public var manifest: String?
  /// For `lend`.
  public var lending: LendingStep?
  /// For `finish`.
  public var ending: MoveEnding?

  public init(_ command: Command, disk: String?) { (self.command, self.disk) = (command, disk) }
}

/// What a move is told.
public struct BlockMoveOrder: Codable, Sendable {
  /// URI of an export.
  public var destination: String
  public var method: MoveMethod
  public var ending: MoveEnding
  /// What the copier may send; nil: no bound.
  public var bytesPerSecond: UInt64?
  /// Longest that the guest's writes shall wait at the end.
  public var pauseLimitMs: UInt64
  /// Whether a URI without TLS may lead to another host.
  public var allowsPlainNetwork = false
  /// The guest's requests never go to the destination, also not when that is asked for later; nil: they may.
  public var staysHere: Bool?
  /// For `waio`.
  public var surrogate: BlockSurrogateOrder?
  /// For `snapmig`, and perhaps for `incremental`: the path of the manifest of the disk's last snapshot.
  public var manifest: String?
  /// For `snapmig`: URIs of exports.
  public var backups: [String]?
  /// For `incremental`.
  public var base: BlockBaseOrder?

  public init(
    destination: String, method: MoveMethod, ending: MoveEnding, pauseLimitMs: UInt64
  ) {
    (self.destination, self.method, self.ending) = (destination, method, ending)
    self.pauseLimitMs = pauseLimitMs
  }
}

/// Which copy a destination has, and how far what is known of it is believed.
public struct BlockBaseOrder: Codable, Sendable {
  /// The path of the copy's manifest.
  public var manifest: String?
  /// In its place: the disk's dirty bitmap that has recorded since the copy was made.
  public var bitmap: String?
  /// Parts to compare before anything is left out.
  public var sampleCount: Int
  /// Every part is compared before it is left out.
  public var verifiesAll: Bool

  public init(
    manifest: String?, bitmap: String? = nil, sampleCount: Int, verifiesAll: Bool
  ) {
    (self.manifest, self.bitmap) = (manifest, bitmap)
    (self.sampleCount, self.verifiesAll) = (sampleCount, verifiesAll)
  }
}

/// What a pull is told.
public struct BlockPullOrder: Codable, Sendable {
  /// URI of an export.
  public var source: String
  /// What may be fetched without the guest's asking; nil: no bound.
  public var bytesPerSecond: UInt64?
  /// What the image holds is not wanted.
  public var overwrites: Bool
  /// Whether a URI without TLS may lead to another host.
  public var allowsPlainNetwork: Bool

  public init(
    source: String, bytesPerSecond: UInt64?, overwrites: Bool, allowsPlainNetwork: Bool
  ) {
    (self.source, self.bytesPerSecond) = (source, bytesPerSecond)
    (self.overwrites, self.allowsPlainNetwork) = (overwrites, allowsPlainNetwork)
  }
}

/// Which surrogate, and what goes there.
public struct BlockSurrogateOrder: Codable, Sendable {
  /// An absolute path, or the URI of an export.
  public var place: String
  /// Bytes of it that may be used; nil: all.
  public var byteCountMax: UInt64?
  public var popularity = PopularityFilter.Terms()

  public init(place: String) { self.place = place }
}

/// The one line of the answer: an error, or what was asked for.
public struct BlockReply: Codable, Sendable {
  public var error: ControlError?
  /// Of the disk, or of all that move, moved or were interrupted.
  public var moves: [MoveStatus]?
  /// Of the disk, or of all that are pulled, or were.
  public var pulls: [DiskPullStatus]?
  /// For `status` of one disk: its image alone may not be the disk, because it moves, is elsewhere, is being pulled, or a
  /// surrogate has some of it; nil: it is.
  public var away: String?
  /// For `snapshot`.
  public var snapshot: BlockSnapshotReport?

  public init() {}
}

/// A snapshot that was taken.
public struct BlockSnapshotReport: Codable, Sendable {
  public let disk, manifest: String
  public let diskBytes, parts: UInt64
  public let generation: String

  public init(
    disk: String, manifest: String, diskBytes: UInt64, parts: UInt64, generation: String
  ) {
    (self.disk, self.manifest, self.diskBytes) = (disk, manifest, diskBytes)
    (self.parts, self.generation) = (parts, generation)
  }
}
