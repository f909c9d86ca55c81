public import HostIO
import NIOPosix
import QMP

/// A running QEMU that was found on this host.
public struct DiscoveredVM: Sendable, Equatable {
  /// From `-name`; a VM without a name is called `pid-PID`.
  public var name: String
  public var uuid: String?
  public var identity: ProcessIdentity
  public var pid: Int32 { identity.pid }
  /// Clock ticks since boot, see `ProcessIdentity`.
  public var startTime: UInt64 { identity.startTime }
  /// The program as started, and the arguments after it.
  public var program: String
  /// Without the program itself.
  public var arguments: [String]
  /// The QMP monitor to use; nil: none was found. The last of several, because managers take the
  /// first and a monitor serves one client.
  public var monitorPath: String?
  /// All that were found, in order.
  public var monitorPaths: [String]
  /// The run state; filled in only by `VMDiscovery.statuses`.
  public var status: String?
  /// Filled in with the status.
  public var qemuVersion: String?
  public var machine: String?
  /// Guest RAM, in bytes.
  public var ramBytes: UInt64?
}

/// Finds the QEMU processes of this host through `/proc`.
public enum VMDiscovery {
  /// VMs listed; more than any host has.
  public static let countMax = 4096
  /// Monitors asked at a time.
  static let askedAtOnce = 32

  /// All QEMU processes, by name and pid. Processes that vanish meanwhile are left out.
  public static func scan() async throws -> [DiscoveredVM] {
    try await NIOThreadPool.singleton.runIfActive { scanBlocking() }
  }

  /// Blocks for some microseconds per process.
  public static func scanBlocking() -> [DiscoveredVM] {
    var found: [DiscoveredVM] = []
    for pid in ProcFile.pids() {
      guard found.count < countMax else { break }
      if let vm = inspect(pid: pid) { found.append(vm) }
    }
    return found.sorted { ($0.name, $0.pid) < ($1.name, $1.pid) }
  }

  /// The VM in process `pid`, if it is one.
  public static func inspect(pid: Int32) -> DiscoveredVM? {
    // The identity is read before and after, so that all of it is about one process.
    guard let identity = ProcessIdentity(pid: pid), let all = ProcFile.arguments(pid: pid),
      let program = all.first, QEMUCommandLine.isQEMU(program: program),
      ProcessIdentity(pid: pid) == identity
    else { return nil }
    let arguments = Array(all.dropFirst())
    let line = QEMUCommandLine(arguments: arguments)
    let directory = ProcFile.link("/proc/\(pid)/cwd") ?? "/"
    var paths = line.monitorPaths.map { $0.hasPrefix("/") ? $0 : directory + "/" + $0 }
    if paths.isEmpty, let libvirt = libvirtMonitor(arguments: arguments) { paths = [libvirt] }
    // A monitor that Godwit keeps for a pull serves nobody else.
    let kept = Set(paths.map { IncomingQEMU.keptMonitorPath($0) })
    paths.removeAll { kept.contains($0) }
    return DiscoveredVM(
      name: line.name ?? "pid-\(pid)", uuid: line.uuid, identity: identity, program: program,
      arguments: arguments, monitorPath: paths.last, monitorPaths: paths, status: nil)
  }

  /// Libvirt passes its monitor as a descriptor; the socket lies in the domain's own folder, which
  /// the secret object of the command line names (`…/domain-3-web/master-key.aes`).
  static func libvirtMonitor(arguments: [String]) -> String? {
    for argument in arguments {
      guard let end = argument.firstRange(of: "/master-key.aes") else { continue }
      let before = argument[..<end.lowerBound]
      guard let start = before.firstIndex(of: "/") else { continue }
      return String(before[start...]) + "/monitor.sock"
    }
    return nil
  }

  /// Asks each VM's monitor for its run state, `timeoutMs` milliseconds at most for each; nil where
  /// it does not answer, for instance because a manager holds the monitor.
  public static func statuses(
    of vms: [DiscoveredVM], timeoutMs: UInt64 = 500
  ) async -> [DiscoveredVM] {
    await withTaskGroup(of: (Int, DiscoveredVM).self) { group in
      var result = vms
      var asked = 0
      for (index, vm) in vms.enumerated() {
        guard let path = vm.monitorPath else { continue }
        if asked >= askedAtOnce, let (index, answered) = await group.next() {
          result[index] = answered
        }
        asked += 1
        group.addTask { (index, await ask(vm, path: path, timeoutMs: timeoutMs)) }
      }
      for await (index, answered) in group { result[index] = answered }
      return result
    }
  }

  private static func ask(
    _ vm: DiscoveredVM, path: String, timeoutMs: UInt64
  ) async -> DiscoveredVM {
    guard let monitor = try? await Monitor.connect(path: path, timeoutMs: timeoutMs) else {
      return vm
    }
    var vm = vm
    vm.status = try? await monitor.client.queryStatus(timeoutMs: timeoutMs).state.name
    if vm.status != nil {
      vm.qemuVersion = monitor.client.greeting?.version.description
      vm.machine = try? await monitor.client.currentMachineType()
      vm.ramBytes = try? await monitor.client.queryMemorySize()
    }
    await monitor.close()
    return vm
  }
}
