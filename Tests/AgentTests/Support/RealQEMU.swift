import Foundation
import HostIO
import Testing

/// QEMUs on this machine: the installed one, the one in Godwit's cache (scripts/install-dependencies.sh),
/// and those that `GODWIT_TEST_QEMU` names, separated by colons.
struct QEMUProgram: Sendable, CustomTestStringConvertible {
  let path: String
  /// `-L` for an unpacked QEMU beside the installed one.
  let firmware: [String]
  var testDescription: String { path }

  init(path: String) {
    self.path = path
    let share = URL(filePath: path).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "share/qemu").path()
    let isUnpacked = path != "/usr/bin/qemu-system-x86_64"
    firmware = isUnpacked && FileManager.default.fileExists(atPath: share) ? ["-L", share] : []
  }

  static let installed: [QEMUProgram] = {
    let environment = ProcessInfo.processInfo.environment
    let named = (environment["GODWIT_TEST_QEMU"] ?? "").split(separator: ":").map(String.init)
    let home = environment["XDG_CACHE_HOME"] ?? (environment["HOME"] ?? "") + "/.cache"
    let cache = (environment["GODWIT_CACHE"] ?? home + "/godwit") + "/qemu"
    let cached = ["\(cache)/current/usr/bin/qemu-system-x86_64"]
    let paths = ["/usr/bin/qemu-system-x86_64"] + (named.isEmpty ? cached : named)
    let found = paths.filter { FileManager.default.isExecutableFile(atPath: $0) }
    if found.isEmpty { print("SKIPPED: no qemu-system-x86_64; install qemu-system-x86") }
    return found.map(QEMUProgram.init)
  }()
}

/// A QEMU under TCG with a QMP socket in a folder of its own; both are gone when it is let go of.
///
/// The RAM size is not a multiple of 256 KiB, for QEMU below 9.0 loses pages under TCG otherwise.
final class RunningQEMU {
  static let ramBytes: UInt64 = 65664 << 10

  private let process: ChildProcess
  let folder: URL
  var monitorPath: String { folder.appending(path: "qmp.sock").path() }
  var pid: Int32 { process.pid }

  init(_ program: QEMUProgram, _ arguments: [String] = []) async throws {
    folder = URL(filePath: "/tmp/godwit-test-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    process = try ChildProcess(
      program.path,
      program.firmware + [
        "-accel", "tcg", "-m", "65664K", "-nodefaults", "-display", "none",
        "-qmp", "unix:\(folder.path())/qmp.sock,server=on,wait=off",
      ] + arguments)
    for _ in 0..<4000 where !isListening {
      guard process.exit == nil else { break }
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  /// Whether the monitor takes connections: its file appears a moment before that. Seen from outside,
  /// since a connection would be the monitor's only one.
  private var isListening: Bool {
    guard let sockets = try? SmallFile.read("/proc/net/unix", bytesMax: 16 << 20) else {
      return false
    }
    // Num RefCount Protocol Flags Type St Inode Path; flag 00010000: listening.
    return sockets.split(separator: "\n").contains { line in
      let fields = line.split(separator: " ")
      return fields.last.map(String.init) == monitorPath && fields[3] == "00010000"
    }
  }

  func kill() {
    process.send(signal: SIGKILL)
    while process.exit == nil { usleep(2000) }
  }

  deinit {
    kill()
    try? FileManager.default.removeItem(at: folder)
  }
}
