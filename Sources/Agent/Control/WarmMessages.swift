/// What `godwit warm` asks of an agent.
public struct WarmRequest: Codable, Sendable, Equatable {
  /// Where nothing else is said: 100 Mbit/s, in bytes per second.
  public static let bandwidthDefault: UInt64 = 12_500_000
  /// A pass is not begun more often than this, in milliseconds, and at least once a week.
  public static let everyMsMin: UInt64 = 1000
  public static let everyMsMax: UInt64 = 604_800_000

  /// A VM name that the agent knows, or `qmp:PATH`.
  public var vm: String
  /// `host[:port]` of the destination's agent.
  public var destination: String
  /// Cap on wire bytes per second.
  public var bandwidthBytesPerSecond = bandwidthDefault
  /// Pause between two passes, in milliseconds; nil: one pass, and that is all.
  public var everyMs: UInt64?

  public init(vm: String, destination: String) {
    (self.vm, self.destination) = (vm, destination)
  }

  /// What is wrong with the values, in one line; nil when nothing is.
  public var problem: String? {
    if vm.isEmpty { return "the name of the VM is empty" }
    if destination.isEmpty { return "the destination is empty" }
    if bandwidthBytesPerSecond < 125_000 { return "at least a bandwidth of 1Mbit is needed" }
    if let everyMs, !(Self.everyMsMin...Self.everyMsMax).contains(everyMs) {
      return "the pause between two passes is a second at least, and a week at most"
    }
    return nil
  }
}

/// How far a pass is.
public struct WarmLook: Codable, Sendable, Equatable {
  /// Memory of the guest that was looked at, and all of it.
  public var doneBytes: UInt64 = 0
  public var ramBytes: UInt64
  public var wireBytes: UInt64 = 0
  /// Until its end, at the pace so far; nil: not known yet.
  public var etaMs: UInt64?
}

/// A pass that is through: what of a guest's memory is in the destination's vault now.
public struct WarmRecord: Codable, Sendable, Equatable {
  public var vm: String
  public var destination = ""
  /// Pages that were sent, and pages that the vault had already, from an earlier pass or from when the guest was there.
  public var sentPages, heldPages: UInt64
  /// Pages that are zero, which are not stored, and pages that can't be read from outside.
  public var zeroPages, unseenPages: UInt64
  /// Pages in the vault, and bytes of their file.
  public var keptPages, keptBytes: UInt64
  public var wireBytes: UInt64
  public var durationMs: UInt64
}
