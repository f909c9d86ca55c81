/// `RunState` of `qapi/run-state.json`.
public enum RunState: Sendable, Hashable {
  case running, paused, inMigrate, postMigrate, preLaunch, finishMigrate, restoreVM, saveVM
  case shutdown, suspended, watchdog, guestPanicked, internalError, ioError, debug, colo
  case unknown(String)

  private static let names: [(String, RunState)] = [
    ("running", .running), ("paused", .paused), ("inmigrate", .inMigrate),
    ("postmigrate", .postMigrate), ("prelaunch", .preLaunch), ("finish-migrate", .finishMigrate),
    ("restore-vm", .restoreVM), ("save-vm", .saveVM), ("shutdown", .shutdown),
    ("suspended", .suspended), ("watchdog", .watchdog), ("guest-panicked", .guestPanicked),
    ("internal-error", .internalError), ("io-error", .ioError), ("debug", .debug), ("colo", .colo),
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
}

extension RunState: CustomStringConvertible {
  public var description: String { name }
}

/// `query-status`.
public struct VMStatus: Sendable, Hashable {
  public let state: RunState
  /// Whether vCPUs execute.
  public let isRunning: Bool

  public init(state: RunState, isRunning: Bool) {
    (self.state, self.isRunning) = (state, isRunning)
  }
}
