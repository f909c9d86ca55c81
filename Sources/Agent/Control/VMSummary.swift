/// One virtual machine as `godwit vms` lists it. What could not be found out is nil.
public struct VMSummary: Codable, Sendable, Equatable {
  /// The name that `godwit migrate` takes.
  public var name: String
  /// Process id of its QEMU; nil when it is defined but doesn't run.
  public var pid: Int32?
  /// Unix socket of a QMP monitor that the agent can use.
  public var monitor: String?
  /// QEMU's run state (`running`, `paused`, ...).
  public var status: String?
  public var qemuVersion: String?
  public var machine: String?
  /// Guest RAM, in bytes.
  public var ramBytes: UInt64?
  /// Why this machine cannot be migrated as it is, in one line.
  public var problem: String?

  public init(name: String, pid: Int32? = nil, monitor: String? = nil, status: String? = nil) {
    (self.name, self.pid, self.monitor, self.status) = (name, pid, monitor, status)
  }

  private enum CodingKeys: CodingKey {
    case name, pid, monitor, status, qemuVersion, machine, ramBytes, problem
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(name, forKey: .name)
    try fields.encode(pid, forKey: .pid)
    try fields.encode(monitor, forKey: .monitor)
    try fields.encode(status, forKey: .status)
    try fields.encode(qemuVersion, forKey: .qemuVersion)
    try fields.encode(machine, forKey: .machine)
    try fields.encode(ramBytes, forKey: .ramBytes)
    try fields.encode(problem, forKey: .problem)
  }
}
