/// `MigrationStatus` of `qapi/migration.json`, 7.2 to 11. What is not known is kept as it came and
/// never taken for an end.
public enum MigrationStatus: Sendable, Hashable {
  case none, setup, cancelling, cancelled, active
  case postcopyActive, postcopyPaused, postcopyRecover, postcopyRecoverSetup, postcopyDevice
  case completed, failing, failed, colo, preSwitchover, device, waitUnplug
  case unknown(String)

  private static let names: [(String, MigrationStatus)] = [
    ("none", .none), ("setup", .setup), ("cancelling", .cancelling), ("cancelled", .cancelled),
    ("active", .active), ("postcopy-active", .postcopyActive),
    ("postcopy-paused", .postcopyPaused), ("postcopy-recover", .postcopyRecover),
    ("postcopy-recover-setup", .postcopyRecoverSetup), ("postcopy-device", .postcopyDevice),
    ("completed", .completed), ("failing", .failing), ("failed", .failed), ("colo", .colo),
    ("pre-switchover", .preSwitchover), ("device", .device), ("wait-unplug", .waitUnplug),
  ]

  /// By QEMU's name; one that isn't known becomes `unknown`.
  public init(_ name: String) {
    self = Self.names.first { $0.0 == name }?.1 ?? .unknown(name)
  }

  /// As QEMU spells it.
  public var name: String {
    if case .unknown(let name) = self { return name }
    return Self.names.first { $0.1 == self }?.0 ?? ""
  }

  /// The migration is over, one way or the other.
  public var isFinal: Bool { self == .completed || self == .failed || self == .cancelled }
  /// A migration exists and is not over.
  public var isRunning: Bool { !isFinal && self != .none }
}

extension MigrationStatus: CustomStringConvertible {
  public var description: String { name }
}
