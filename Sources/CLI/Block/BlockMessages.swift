import Agent
import BlockStore
import DiskStrategy

/// A request to a server of disks: one JSON object on one line, one request per connection.
struct BlockRequest: Codable, Sendable {
  enum Command: String, Codable, Sendable {
    case move, pause, resume, finish, cancel, status, snapshot, pull, lend
  }

  /// Version of this protocol.
  static let current = 1
  /// A line longer than this is no request and no answer.
  static let bytesMax = 1 << 20

  var block = current
  var command: Command
  /// Name of the export; for `status` nil means all.
  var disk: String?
  /// For `move`.
  var move: BlockMoveOrder?
  /// For `pull`.
  var pull: BlockPullOrder?
  /// For `snapshot`: the path of the manifest.
  var manifest: String?
  /// For `lend`, where an empty name means the first disk.
  var lending: LendingStep?
  /// For `finish`.
  var ending: MoveEnding?

  init(_ command: Command, disk: String?) { (self.command, self.disk) = (command, disk) }
}

/// What a move is told.
struct BlockMoveOrder: Codable, Sendable {
  var destination: String
  var method: MoveMethod
  var ending: MoveEnding
  var bytesPerSecond: UInt64?
  var pauseLimitMs: UInt64
  var allowsPlainNetwork: Bool
  /// For `waio`.
  var surrogate: BlockSurrogateOrder?
  /// For `snapmig`, and perhaps for `incremental`: the path of the manifest of the disk's last snapshot.
  var manifest: String?
  /// For `snapmig`: URIs of exports.
  var backups: [String]?
  /// For `incremental`.
  var base: BlockBaseOrder?
}

/// Which copy a destination has, and how far its manifest is believed.
struct BlockBaseOrder: Codable, Sendable {
  /// The path of the copy's manifest.
  var manifest: String
  /// Parts to compare before anything is left out.
  var sampleCount: Int
  /// Every part is compared before it is left out.
  var verifiesAll: Bool
}

/// What a pull is told.
struct BlockPullOrder: Codable, Sendable {
  var source: String
  var bytesPerSecond: UInt64?
  var overwrites: Bool
  var allowsPlainNetwork: Bool
}

/// Which surrogate, and what goes there.
struct BlockSurrogateOrder: Codable, Sendable {
  /// An absolute path, or the URI of an export.
  var place: String
  var byteCountMax: UInt64?
  var popularity: PopularityFilter.Terms
}

/// The one line of the answer; one of the two is set.
struct BlockReply: Codable, Sendable {
  var error: ControlError?
  /// Of the disk, or of all that move, moved or were interrupted.
  var moves: [MoveStatus]?
  /// Of the disk, or of all that are pulled, or were.
  var pulls: [DiskPullStatus]?
  /// For `snapshot`.
  var snapshot: BlockSnapshotReport?
}

/// A snapshot that was taken.
struct BlockSnapshotReport: Codable, Sendable {
  let disk, manifest: String
  let diskBytes, parts: UInt64
  let generation: String
}
