import Base
import FoundationEssentials

/// A request on the control socket: one JSON object on one line, one request per connection.
public struct ControlRequest: Codable, Sendable, Equatable {
  /// What is asked for; most have a field of their own that says the rest.
  public enum Command: String, Codable, Sendable {
    case version, vms, migrate, status, watch, cancel, recover, history, trace, plan, vault, warm
  }

  /// A line longer than this is no request.
  public static let bytesMax = 64 << 10
  /// Most records that one `history` returns.
  public static let historyLimitMax = 1000

  /// Must equal `GodwitVersion.current.control`.
  public var control = GodwitVersion.current.control
  public var command: Command
  /// For `cancel`.
  public var vm: String?
  /// For `history`: `1...historyLimitMax`.
  public var limit: Int?
  /// For `migrate` and `plan`.
  public var migration: MigrationRequest?
  /// For `recover`.
  public var recovery: RecoverRequest?
  /// For `trace`.
  public var trace: TraceRequest?
  /// For `vault`.
  public var vault: VaultRequest?
  /// For `warm`.
  public var warm: WarmRequest?

  public init(_ command: Command) { self.command = command }
}

/// A line of an answer. Exactly one field is set; the server closes after the last line.
///
/// `migrate` answers `progress` any number of times, then one `record`; `trace` answers `traceLook` and
/// then one `trace`; `warm` answers `warmLook` and a `warm` for each pass. `watch` answers `status`
/// several times a second until the client leaves. All others answer once.
public struct ControlReply: Codable, Sendable, Equatable {
  /// Longest line that a client accepts; `historyLimitMax` records fit.
  public static let bytesMax = 16 << 20

  public var error: ControlError?
  public var version: GodwitVersion?
  public var vms: [VMSummary]?
  public var progress: MigrationProgress?
  public var record: MigrationRecord?
  public var status: [MigrationProgress]?
  public var cancelled: String?
  public var history: [MigrationRecord]?
  public var recovered: [RecoveryItem]?
  public var traceLook: TraceLook?
  public var trace: TraceRecord?
  public var plan: PlanReport?
  public var vault: [VaultItem]?
  public var warmLook: WarmLook?
  public var warm: WarmRecord?

  public init() {}

  static func failure(_ error: ControlError) -> Self {
    var reply = Self()
    reply.error = error
    return reply
  }
}

/// JSON lines as the control socket and `--json` write them: keys sorted, one object a line.
public enum JSONLine {
  /// One line, without the line break at its end. Throws `EncodingError`.
  public static func encode(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }

  /// Takes the bytes of one line. Fields that aren't known are passed over; throws `DecodingError`
  /// where one that has to be there is missing or of another type.
  public static func decode<T: Decodable>(_: T.Type, from line: some Sequence<UInt8>) throws -> T {
    try JSONDecoder().decode(T.self, from: Data(line))
  }
}

extension MigrationRequest {
  /// What is wrong with the values, in one line; nil when nothing is.
  public var problem: String? {
    if vm.isEmpty { return "the name of the VM is empty" }
    if destination.isEmpty { return "the destination is empty" }
    if networkPatienceMs > PeerMessageLimits.networkPatienceMsMax {
      return "network patience must be at most a day"
    }
    if stoppedPatienceMs > PeerMessageLimits.networkPatienceMsMax {
      return "stopped patience must be at most a day"
    }
    if let gang, !(1...Self.gangNameMax).contains(gang.utf8.count) {
      return "the name of a gang has 1 to \(Self.gangNameMax) bytes"
    }
    if gang != nil, compaction == .off {
      return "a gang shares pages, which a compaction of off rules out"
    }
    if !(1...64).contains(laneCount) { return "lanes must be 1 to 64, not \(laneCount)" }
    if downtimeLimitMs == 0 {
      return "a downtime of 0 can't be promised; the smallest is 1ms"
    }
    if downtimeLimitMs > Self.downtimeLimitMsMax {
      return "downtime must be at most \(Milliseconds.format(Self.downtimeLimitMsMax))"
    }
    if withinMs == 0 { return "no migration ends within 0; leave --within out" }
    if let downtimeCeilingMs, downtimeCeilingMs < downtimeLimitMs {
      return "the longest downtime must not be below the downtime to aim for"
    }
    if maxThrottlePercent > 99 {
      return "at most 99 % of a guest's processor time can be denied, not \(maxThrottlePercent)"
    }
    if bandwidthBytesPerSecond == 0 { return "a bandwidth of 0 moves nothing; leave it out" }
    return disks?.problem
  }

  /// Bytes.
  public static let gangNameMax = 128

  /// QEMU refuses more than 2000 s.
  public static let downtimeLimitMsMax: UInt64 = 2_000_000
}
