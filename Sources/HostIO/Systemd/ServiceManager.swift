import Glibc

/// What systemd, or another manager with the same protocol, is told about this process (sd_notify(3)).
/// Without `$NOTIFY_SOCKET` nobody is told.
public struct ServiceManager: Sendable {
  private let socket: DatagramSocket?

  /// - Parameter address: where to send; nil: nowhere. One that can't be reached is as none: an agent
  ///   must not fail for it.
  public init(address: String?) {
    socket = address.flatMap { try? DatagramSocket(to: $0) }
  }

  /// For `$NOTIFY_SOCKET`, as systemd sets it.
  public static func fromEnvironment() -> ServiceManager {
    ServiceManager(address: EnvironmentVariable.value("NOTIFY_SOCKET"))
  }

  /// Everything that this process serves can be reached.
  public func ready(status: String) { notify(["READY=1", "STATUS=\(status)"]) }

  /// A new configuration is being read; `ready` follows.
  public func reloading() {
    notify(["RELOADING=1", "MONOTONIC_USEC=\(MonotonicClock.nowUs)"])
  }

  /// The end has begun, and may take this long.
  public func stopping(withinMs: UInt64, status: String) {
    notify([
      "STOPPING=1", "STATUS=\(status)",
      "EXTEND_TIMEOUT_USEC=\(withinMs.multipliedReportingOverflow(by: 1000).partialValue)",
    ])
  }

  private func notify(_ lines: [String]) {
    // A line break in a text would begin a new assignment.
    let text = lines.map { String($0.map { $0.isNewline ? " " : $0 }) }.joined(separator: "\n")
    _ = socket?.send(Array(text.utf8))
  }
}

/// Variables of this process's environment.
enum EnvironmentVariable {
  static func value(_ name: String) -> String? {
    // SAFETY: getenv's string is copied at once; nothing in this program changes the environment.
    unsafe getenv(name).map { unsafe String(cString: $0) }
  }
}
