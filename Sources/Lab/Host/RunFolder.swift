import FoundationEssentials
import Glibc
import HostIO

/// A run's own folder: sockets, logs, the list of what has to be undone.
///
/// A file in it is locked as long as the run lives. A folder whose lock is free belongs to a run
/// that died: its processes are ended and its namespaces removed before the next run starts.
public struct RunFolder: Sendable {
  public let path: String
  /// Starts every name that this run gives to something outside the folder (namespaces).
  public let prefix: String
  private let lock: FileLock

  static let namespacePrefix = "gwlab"
  /// Where guest RAM that is a file lies.
  static let memoryFolder = "/dev/shm"

  /// `/run/godwit-lab` for root, else a folder of the user's.
  static var base: String {
    if geteuid() == 0 { return "/run/godwit-lab" }
    let environment = ProcessInfo.processInfo.environment
    return (environment["XDG_RUNTIME_DIR"] ?? "/tmp") + "/godwit-lab-\(geteuid())"
  }

  /// Makes a folder for this process's run, after cleaning up what dead runs left.
  public static func create(base: String? = nil) async throws -> RunFolder {
    let base = base ?? Self.base
    try FileManager.default.createDirectory(
      atPath: base, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    var information = stat()
    guard unsafe stat(base, &information) == 0, information.st_uid == geteuid(),
      information.st_mode & 0o022 == 0
    else { throw LabError("\(base) belongs to somebody else or others may write to it") }
    let guardian = try await FileLock.acquire("\(base)/lock", timeoutMs: 60_000)
    defer { guardian.release() }
    await Leftovers.remove(base: base)
    var number = 0
    while SmallFile.isReadable("\(base)/\(getpid())-\(number)/lock") { number += 1 }
    let path = "\(base)/\(getpid())-\(number)"
    try FileManager.default.createDirectory(
      atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    guard let lock = try FileLock.attempt("\(path)/lock") else {
      throw LabError("\(path) is in use")
    }
    return RunFolder(path: path, prefix: "\(namespacePrefix)\(getpid())-\(number)", lock: lock)
  }

  /// The path of a file in the folder; nothing is made.
  public func file(_ name: String) -> String { "\(path)/\(name)" }

  /// Notes a process that must not outlive the run. Its start time tells it from a later process
  /// with the same number.
  public func note(process pid: Int32) throws {
    guard let started = Leftovers.startTime(of: pid) else { return }
    var lines = (try? SmallFile.read(file("processes"))) ?? ""
    lines += "\(pid) \(started)\n"
    try SmallFile.write(Array(lines.utf8), to: file("processes"))
  }

  /// Lets go of the folder as a run does that dies.
  func abandon() { lock.release() }

  /// Removes the folder with everything in it.
  public func remove() {
    lock.release()
    try? FileManager.default.removeItem(atPath: path)
  }
}

/// What runs left behind that were killed.
enum Leftovers {
  static func remove(base: String) async {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: base)) ?? []
    for name in names.sorted() where name.contains("-") {
      let folder = "\(base)/\(name)"
      // A lock that another process holds: that run is alive.
      guard let lock = try? FileLock.attempt("\(folder)/lock") else { continue }
      await removeNamespaces(prefix: RunFolder.namespacePrefix + name)
      endProcesses(listedIn: "\(folder)/processes")
      endProcesses(naming: folder + "/")
      removeMemoryFiles(prefix: RunFolder.namespacePrefix + name + "-")
      await SmallDisk.unmountAll(below: folder)
      lock.release()
      try? FileManager.default.removeItem(atPath: folder)
    }
  }

  /// Processes, other than this one, that have `text` in an argument: a QEMU that an agent started
  /// is no child of the lab's, but it names files of the run.
  static func processes(naming text: String) -> [Int32] {
    ProcFile.pids().filter { pid in
      pid != getpid() && ProcFile.arguments(pid: pid)?.contains { $0.contains(text) } == true
    }
  }

  /// Files that were guest RAM (backend `file`).
  static func removeMemoryFiles(prefix: String) {
    for name in ProcFile.names(in: RunFolder.memoryFolder) where name.hasPrefix(prefix) {
      try? FileManager.default.removeItem(atPath: "\(RunFolder.memoryFolder)/\(name)")
    }
  }

  static func endProcesses(naming text: String) {
    for pid in processes(naming: text) { _ = kill(pid, SIGKILL) }
  }

  /// Ends what runs inside, then removes the namespaces whose names start with `prefix`.
  static func removeNamespaces(prefix: String) async {
    guard geteuid() == 0, let all = try? await NetworkNamespace.all() else { return }
    for namespace in all where namespace.name.hasPrefix(prefix) {
      for pid in (try? await namespace.processes()) ?? [] where pid != getpid() {
        _ = kill(pid, SIGKILL)
      }
      try? await namespace.delete()
    }
  }

  static func endProcesses(listedIn path: String) {
    guard let list = try? SmallFile.read(path) else { return }
    for line in list.split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count == 2, let pid = Int32(fields[0]), let started = UInt64(fields[1]) else {
        continue
      }
      if startTime(of: pid) == started { _ = kill(pid, SIGKILL) }
    }
  }

  /// When a process started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
  static func startTime(of pid: Int32) -> UInt64? {
    guard let text = try? SmallFile.read("/proc/\(pid)/stat"),
      let end = text.lastIndex(of: ")")
    else { return nil }
    let fields = text[end...].split(separator: " ")
    return fields.count > 20 ? UInt64(fields[20]) : nil
  }
}
