public import Base

/// One virtual machine as `godwit vms` lists it. What could not be found out is nil.
public struct VMSummary: Codable, Sendable, Equatable {
  /// The name that `godwit migrate` takes.
  public var name: String
  /// Process id of its QEMU; nil when it is defined but doesn't run.
  @OrNull public var pid: Int32?
  /// Unix socket of a QMP monitor that the agent can use.
  @OrNull public var monitor: String?
  /// QEMU's run state (`running`, `paused`, ...).
  @OrNull public var status: String?
  @OrNull public var qemuVersion: String?
  @OrNull public var machine: String?
  /// Guest RAM, in bytes.
  @OrNull public var ramBytes: UInt64?
  /// Why this machine cannot be migrated as it is, in one line.
  @OrNull public var problem: String?

  public init(name: String, pid: Int32? = nil, monitor: String? = nil, status: String? = nil) {
    (self.name, self.pid, self.monitor, self.status) = (name, pid, monitor, status)
  }
}
