import HostIO
import NIOPosix
import QMP

/// What an operator meant by a VM: its monitor, and its process when it is on this host.
public struct ResolvedVM: Sendable, Equatable {
  public let name: String
  public let monitorPath: String
  /// nil: the monitor was named by path and no process of this host is known to serve it.
  public let process: DiscoveredVM?

  /// Whether both are one QEMU, reached through one monitor or two.
  func isSameQEMU(_ other: Self) -> Bool {
    monitorPath == other.monitorPath
      || (process != nil && process?.identity == other.process?.identity)
  }
}

/// Why a VM's name leads nowhere. Each text names the remedy.
public enum VMResolutionError: Error, Hashable, Sendable, CustomStringConvertible {
  case notFound(String, known: [String])
  case ambiguous(String, pids: [Int32])
  case noMonitor(String, pid: Int32)
  case relativePath(String)

  public var description: String {
    switch self {
    case .notFound(let name, let known):
      known.isEmpty
        ? "no VM is called \"\(name)\": no QEMU runs on this host, or its process cannot be seen"
        : "no VM is called \"\(name)\"; running here: \(known.joined(separator: ", "))"
    case .ambiguous(let name, let pids):
      "\(pids.count) QEMUs are called \"\(name)\" (pids \(pids.map(String.init).joined(separator: ", "))); "
        + "name one by its monitor: qmp:PATH"
    case .noMonitor(let name, let pid):
      "the QEMU of \"\(name)\" (pid \(pid)) serves no QMP monitor on a unix socket; start it with "
        + "-qmp unix:PATH,server=on,wait=off"
    case .relativePath(let path): "\"\(path)\" is not an absolute path; write qmp:/run/…"
    }
  }
}

/// Finds out which QEMU an operator means.
public enum VMResolver {
  /// A QEMU that was told to quit answers nobody, and is gone within so long, in milliseconds.
  private static let quitMs: UInt64 = 3000
  private static let quitLookMs = 50

  /// Finds the VM that `text` names: `qmp:PATH`, or a name, or `pid-PID`.
  public static func resolve(_ text: String) async throws -> ResolvedVM {
    let deadlineMs = MonotonicClock.nowMs + quitMs
    while true {
      let vms = try await VMDiscovery.scan()
      let first = find(text, among: vms)
      if case .success(let vm) = first, vm.process == nil {
        return try await withServer(of: vm, among: vms)
      }
      guard case .failure(.ambiguous) = first else { return try first.get() }
      // Beside a migration's source there is its destination, or the other way round; only one of
      // them is the VM.
      let asked = await VMDiscovery.statuses(of: vms.filter { isNamed($0, text) })
      let live = asked.filter { $0.status != "inmigrate" && $0.status != "postmigrate" }
      // A guest that has just come may be moved on while the QEMU that it left is still ending.
      guard live.count > 1, live.contains(where: { $0.status == nil }),
        MonotonicClock.nowMs < deadlineMs
      else { return try find(text, among: live.count == 1 ? live : asked).get() }
      try await Task.sleep(for: .milliseconds(quitLookMs))
    }
  }

  /// A path may be written otherwise than on QEMU's command line; the kernel knows who listens there.
  private static func withServer(
    of vm: ResolvedVM, among vms: [DiscoveredVM]
  ) async throws -> ResolvedVM {
    let identity = try await NIOThreadPool.singleton.runIfActive {
      ProcessIdentity(servingUnixSocket: vm.monitorPath)
    }
    guard let process = vms.first(where: { $0.identity == identity }) else {
      let name = await nameFromMonitor(vm.monitorPath) ?? vm.name
      return ResolvedVM(name: name, monitorPath: vm.monitorPath, process: nil)
    }
    return ResolvedVM(name: process.name, monitorPath: vm.monitorPath, process: process)
  }

  /// The name that a QEMU elsewhere (another PID namespace) gives itself; nil without an answer.
  static func nameFromMonitor(_ path: String) async -> String? {
    guard let monitor = try? await Monitor.connect(path: path, timeoutMs: 2000) else { return nil }
    let name = try? await monitor.client.queryName()
    await monitor.close()
    return name
  }

  private static func isNamed(_ vm: DiscoveredVM, _ text: String) -> Bool {
    vm.name == text || "pid-\(vm.pid)" == text
  }

  static func find(
    _ text: String, among vms: [DiscoveredVM]
  ) -> Result<ResolvedVM, VMResolutionError> {
    if text.hasPrefix("qmp:") {
      let path = String(text.dropFirst("qmp:".count))
      guard path.hasPrefix("/") else { return .failure(.relativePath(path)) }
      let owners = vms.filter { $0.monitorPaths.contains(path) }
      let owner = owners.count == 1 ? owners.first : nil
      return .success(ResolvedVM(name: owner?.name ?? text, monitorPath: path, process: owner))
    }
    let named = vms.filter { isNamed($0, text) }
    guard let vm = named.first else { return .failure(.notFound(text, known: vms.map(\.name))) }
    guard named.count == 1 else { return .failure(.ambiguous(text, pids: named.map(\.pid))) }
    guard let path = vm.monitorPath else { return .failure(.noMonitor(text, pid: vm.pid)) }
    return .success(ResolvedVM(name: vm.name, monitorPath: path, process: vm))
  }
}
