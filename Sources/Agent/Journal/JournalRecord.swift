import HostIO
import QEMUStream
import Strategy
import Wire

/// What each side writes down before it acts, one JSON object a line.
///
/// The order of records is the order of decisions; `ARCHITECTURE.md` ("When something dies") says
/// what follows from the last one.
enum JournalRecord: Codable, Sendable {
  /// The source is about to change its QEMU's migration settings.
  case sourceBegan(SourceStart)
  /// The source is about to limit the guest's vCPU threads, which are as this says.
  case vcpusLimited(VCPUSnapshot)
  /// They are as they were.
  case vcpusRestored
  /// The destination is about to start, or has started, a QEMU.
  case destinationBegan(DestinationStart)
  case destinationStarted(DestinationStart, QEMUHandle)
  /// The destination is about to make images for disks that come with the guest.
  case disksPlanned(paths: [String])
  /// It has made them, and they are these files.
  case disksMade([MadeFile])
  /// The guest is to run at the destination before its memory is there: written before the source stops
  /// it, and by the destination before `prepared`.
  case pulling(PullStart)
  /// The destination has loaded everything and is paused: it decides nothing alone any more.
  case prepared
  /// Whether the guest ran right before it was stopped, where that isn't as the first record says: its operator paused it
  /// or let it go on meanwhile. At both sides, before the source is about to commit.
  case guestRan(Bool)
  /// The source is about to send SHUT 0.
  case committing
  /// The source's QEMU has given the guest up (`postmigrate`): only the destination may go on.
  case committed
  /// The source is about to run the guest that it had given up: the destination never will, by its own word or a person's.
  case reclaiming
  /// The guest goes on at the source and its QEMU is as before; the destination may not know yet.
  case takenBack
  /// The destination is about to run the guest.
  case resuming
  /// The destination's QEMU never ran the guest and never will, although `resuming` may be written.
  case refused
  /// Nothing is left to do.
  case done(outcome: String)

  struct SourceStart: Codable, Sendable {
    var id, vm, destination, monitorPath: String
    var pid: Int32
    var processStart: UInt64
    /// Settings to put back, as QMP's JSON.
    var capabilities: [String: Bool]
    var parameters: String
    var wasRunning: Bool
    var startedAt: Int64
    var keepSource: Bool
    /// Copies of disks that may be under way in the source's QEMU; nil: none.
    var mirrors: [DiskMirror.Handle]?
    /// Moves that may be under way in the servers of its disks; nil: none.
    var moves: [ServerMoves.Handle]?
    /// The destination's secret, 32 hexadecimal digits: its session asks for it where pages are pulled.
    var token: String?

    /// What a connection for pulled pages shows.
    func pullToken(_ id: MigrationID) -> MigrationID { token.flatMap { MigrationID($0) } ?? id }
  }

  /// What a pull goes on from when an agent died.
  struct PullStart: Codable, Sendable {
    /// The stream's RAM blocks, in its order: requests name them by their place.
    var blocks: [RAMBlock]
    /// Of RAM's sections.
    var sectionID: UInt32
    /// At the source: the destination takes pages that were made small. Nil: it doesn't.
    var packs: Bool?
    /// At the source: what its operator allowed (`--bandwidth`), in bytes per second. Nil: all of the link.
    var bandwidthBytesPerSecond: UInt64?
  }

  struct DestinationStart: Codable, Sendable {
    var id, vm, source: String
    var resumeGuest: Bool
    /// Names of the source's certificate; empty over plain TCP.
    var peerNames: [String]?
  }

  struct QEMUHandle: Codable, Sendable {
    var pid: Int32
    var processStart: UInt64
    var monitorPath: String
  }
}

extension JournalRecord {
  /// The record without its contents, as people read it.
  var name: String {
    switch self {
    case .sourceBegan: "sourceBegan"
    case .vcpusLimited: "vcpusLimited"
    case .vcpusRestored: "vcpusRestored"
    case .destinationBegan: "destinationBegan"
    case .destinationStarted: "destinationStarted"
    case .disksPlanned: "disksPlanned"
    case .disksMade: "disksMade"
    case .pulling: "pulling"
    case .prepared: "prepared"
    case .guestRan: "guestRan"
    case .committing: "committing"
    case .committed: "committed"
    case .reclaiming: "reclaiming"
    case .takenBack: "takenBack"
    case .resuming: "resuming"
    case .refused: "refused"
    case .done: "done"
    }
  }

  /// Whether it tells how far the migration is.
  var isStep: Bool {
    switch self {
    case .vcpusLimited, .vcpusRestored, .disksPlanned, .disksMade, .guestRan: false
    default: true
    }
  }

  /// The guest runs, or has run, at the destination.
  static let outcomeRunning = "running"
  /// The destination was prepared, and its QEMU is gone without having run the guest.
  static let outcomeLost = "lost"
}

extension JournalRecord {
  /// - Parameter reason: why the migration did not come to its end.
  init(_ record: SourceRecord, reason: String?) {
    self =
      switch record {
      case .committing: .committing
      case .committed: .committed
      case .reclaiming: .reclaiming
      case .takenBack: .takenBack
      case .done(.completed): .done(outcome: "completed")
      case .done(let end): .done(outcome: reason ?? "\(end)")
      }
  }

  /// - Parameter reason: why the migration came to nothing.
  init(_ record: DestinationRecord, reason: String?) {
    self =
      switch record {
      case .prepared: .prepared
      case .resuming: .resuming
      case .refused: .refused
      case .done(.running): .done(outcome: Self.outcomeRunning)
      case .done(.lost): .done(outcome: Self.outcomeLost)
      case .done(.discarded): .done(outcome: reason ?? "discarded")
      }
  }
}
