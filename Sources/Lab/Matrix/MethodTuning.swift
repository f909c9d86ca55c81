public import Agent
import Base
import QMP
public import Strategy

/// What of a method is set otherwise than the scenario and the lab have it: `[tuning.NAME]` in a file,
/// used by methods that are named `qemu-autoconverge+NAME`.
public struct MethodTuning: Sendable, Equatable {
  public var downtimeLimitMs: UInt64?
  /// Godwit's alone, as `godwit migrate` takes them.
  public var pageSource: MigrationRequest.PageSourceChoice?
  public var withinMs, downtimeCeilingMs, maxThrottlePercent: UInt64?
  public var atDeadline: DeadlineAction?
  public var throttleForm: ThrottleForm?
  public var compaction: MigrationRequest.CompactionChoice?
  /// Guests that are moved at once leave as one gang.
  public var isGang: Bool?
  /// How the server of a guest's own disk moves it.
  public var diskMethod: DiskWishes.Method?
  /// Of a disk that moves alone: what its copier may send, in bytes per second, QEMU's mirror too.
  public var diskBytesPerSecond: UInt64?
  /// QEMU's alone, on both sides, over what the rival has by itself.
  var capabilities: [String: Bool] = [:]
  var parameters: [String: JSONValue] = [:]

  public init() {}

  /// The same for the same settings: dictionaries have no order.
  var fingerprint: String {
    let pairs =
      capabilities.map { "\($0.key)=\($0.value)" } + parameters.map { "\($0.key)=\($0.value.line)" }
    return "\(downtimeLimitMs ?? 0) \(pageSource?.rawValue ?? "") \(pairs.sorted()) \(godwits)"
  }

  /// Godwit's own settings, for people and for comparing.
  private var godwits: String {
    let numbers = [
      ("within", withinMs), ("maxDowntime", downtimeCeilingMs), ("maxThrottle", maxThrottlePercent),
    ]
    return numbers.compactMap { name, value in value.map { "\(name)=\($0) " } }.joined()
      + (atDeadline.map { "atDeadline=\($0.rawValue) " } ?? "")
      + (throttleForm.map { "throttle=\($0.rawValue) " } ?? "")
      + (compaction.map { "compaction=\($0.rawValue) " } ?? "")
      + (isGang.map { "gang=\($0) " } ?? "")
      + (diskMethod.map { "diskMethod=\($0.rawValue) " } ?? "")
      + (diskBytesPerSecond.map { "diskRate=\($0) " } ?? "")
  }

  /// What is set in `other` wins.
  mutating func merge(_ other: MethodTuning) {
    downtimeLimitMs = other.downtimeLimitMs ?? downtimeLimitMs
    pageSource = other.pageSource ?? pageSource
    withinMs = other.withinMs ?? withinMs
    downtimeCeilingMs = other.downtimeCeilingMs ?? downtimeCeilingMs
    maxThrottlePercent = other.maxThrottlePercent ?? maxThrottlePercent
    atDeadline = other.atDeadline ?? atDeadline
    throttleForm = other.throttleForm ?? throttleForm
    compaction = other.compaction ?? compaction
    isGang = other.isGang ?? isGang
    diskMethod = other.diskMethod ?? diskMethod
    diskBytesPerSecond = other.diskBytesPerSecond ?? diskBytesPerSecond
    capabilities.merge(other.capabilities) { $1 }
    parameters.merge(other.parameters) { $1 }
  }

  func apply(to request: inout MigrationRequest) {
    request.withinMs = withinMs
    request.downtimeCeilingMs = downtimeCeilingMs
    if let maxThrottlePercent { request.maxThrottlePercent = maxThrottlePercent }
    if let atDeadline { request.atDeadline = atDeadline }
    if let throttleForm { request.throttleForm = throttleForm }
    if let compaction { request.compaction = compaction }
    if isGang == true { request.gang = Self.gangName }
  }

  /// Those that need nothing which the lab's guests don't have: snapshots and older copies.
  private static let diskMethods: [DiskWishes.Method] = [
    .auto, .precopy, .mirror, .iofollow, .waio,
  ]

  /// The agents of a trial are its own: one name does for all gangs.
  static let gangName = "lab"

  /// Why `method` cannot be tuned like this; nil when it can.
  func problem(with method: LabMethod) -> String? {
    if !method.isOfDisks, diskBytesPerSecond != nil { return "diskRate is for a disk alone" }
    switch method {
    case .rival:
      return pageSource == nil && godwits.isEmpty
        ? nil : "only downtime, capabilities and parameters mean something to QEMU alone"
    case .strategy:
      if isGang == true, compaction == .off { return "a gang shares pages: compaction is not off" }
      return capabilities.isEmpty && parameters.isEmpty
        ? nil : "Godwit's agents set QEMU's capabilities and parameters"
    case .disk(let method, _):
      if method.isStill { return "nothing moves, so nothing is slowed" }
      var rest = self
      rest.diskBytesPerSecond = nil
      return rest == MethodTuning() ? nil : "a disk alone has diskRate, and no other setting"
    }
  }
}

extension MethodTuning: Decodable {
  enum CodingKeys: String, CodingKey, CaseIterable {
    case downtime, pageSource, capabilities, parameters
    case within, maxDowntime, maxThrottle, atDeadline, throttle, compaction, gang, diskMethod,
      diskRate
  }

  /// A parameter is a number, a text or a truth.
  private enum Value: Decodable {
    case number(Int)
    case truth(Bool)
    case text(String)

    init(from decoder: any Decoder) throws {
      let value = try decoder.singleValueContainer()
      if let truth = try? value.decode(Bool.self) {
        self = .truth(truth)
      } else if let number = try? value.decode(Int.self) {
        self = .number(number)
      } else {
        self = .text(try value.decode(String.self))
      }
    }

    var json: JSONValue {
      switch self {
      case .number(let number): JSONValue(number)
      case .truth(let truth): .bool(truth)
      case .text(let text): .string(text)
      }
    }
  }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    downtimeLimitMs = try values.duration(.downtime)
    pageSource = try values.parsed(.pageSource, "auto, inline or shared") {
      MigrationRequest.PageSourceChoice(rawValue: $0)
    }
    withinMs = try values.duration(.within)
    downtimeCeilingMs = try values.duration(.maxDowntime)
    if let percent = try values.decodeIfPresent(Int.self, forKey: .maxThrottle) {
      guard (0...99).contains(percent) else {
        throw DecodingError.dataCorruptedError(
          forKey: .maxThrottle, in: values, debugDescription: "\(percent) is not in 0...99")
      }
      maxThrottlePercent = UInt64(percent)
    }
    atDeadline = try values.parsed(.atDeadline, "stop, postcopy or abort") {
      DeadlineAction(rawValue: $0)
    }
    throttleForm = try values.parsed(.throttle, "at-once, stepwise or freeze") {
      ThrottleForm(rawValue: $0)
    }
    compaction = try values.parsed(.compaction, "auto, off, lz4 or zstd") {
      MigrationRequest.CompactionChoice(rawValue: $0)
    }
    isGang = try values.decodeIfPresent(Bool.self, forKey: .gang)
    diskMethod = try values.parsed(.diskMethod, "auto, precopy, mirror, iofollow or waio") {
      DiskWishes.Method(rawValue: $0).flatMap { Self.diskMethods.contains($0) ? $0 : nil }
    }
    diskBytesPerSecond = try values.parsed(.diskRate, "64KiB/s to 64GiB/s") { text in
      ByteRate(parsing: text).flatMap {
        (64 << 10...64 << 30).contains($0.bytesPerSecond) ? $0.bytesPerSecond : nil
      }
    }
    capabilities =
      try values.decodeIfPresent([String: Bool].self, forKey: .capabilities) ?? [:]
    parameters =
      try values.decodeIfPresent([String: Value].self, forKey: .parameters)?.mapValues(\.json)
      ?? [:]
  }
}
