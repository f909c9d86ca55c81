import Foundation
import Glibc
import HostIO
import QMP
import Testing

@testable import Agent

/// A running QEMU with a disk, and the built agents of two hosts, whose disks are in folders of their own.
///
/// The guest is QEMU's firmware, which finds nothing to boot: its disk is written to through a monitor, so that what it
/// holds in the end is known.
final class DiskMigrationRig: Sendable {
  let folder = "/tmp/godwit-moves-\(UUID().uuidString.prefix(8))"
  let name = "moves-\(UUID().uuidString.prefix(6))"
  let qemu: String
  let guest: ChildProcess
  let agents: [ChildProcess]
  let byteCount: Int
  /// Of the disk at the source: raw, or qcow2.
  let format: String
  private let ports: [Int]

  var image: String { folder + "/here/disk." + format }
  var copy: String { folder + "/there/disk.raw" }
  /// Of the second disk, where there is one.
  var second: String { folder + "/here/second.raw" }
  var secondCopy: String { folder + "/there/second.raw" }
  static let secondByteCount = 8 << 20
  /// The agent's monitor, and the test's.
  var monitor: String { folder + "/qmp" }
  var ownMonitor: String { folder + "/own" }
  var arrivedMonitor: String { folder + "/arrived" }

  /// - Parameters:
  ///   - more: of QEMU's arguments, on both sides.
  ///   - holdingDisks: the destination takes its time to complete them.
  ///   - holdingCommit: the source takes its time before it commits.
  ///   - format: of the disk at the source; at the destination it is raw.
  ///   - hasSecond: a second disk, `vd1`, of nothing but one byte.
  ///   - destination: where the definition at the destination has the disk; nil: in its own folder.
  init(
    _ qemu: String, byteCount: Int = 32 << 20, more: [String] = [], iothread: Bool = false,
    destination: String? = nil, holdingDisks: Bool = false, holdingCommit: Bool = false,
    format: String = "raw", hasSecond: Bool = false
  ) async throws {
    (self.qemu, self.byteCount, self.format) = (qemu, byteCount, format)
    for part in ["", "/here", "/there"] { try PrivateDirectory.make(folder + part) }
    var random = SystemRandomNumberGenerator()
    // Half of it differs from block to block, the rest is a hole.
    var bytes = Data(count: byteCount / 2)
    for offset in stride(from: 0, to: byteCount / 2, by: 4096) {
      var word = random.next()
      withUnsafeBytes(of: &word) { bytes.replaceSubrange(offset..<offset + 8, with: $0) }
    }
    try bytes.write(to: URL(filePath: folder + "/here/disk.raw"))
    guard truncate(folder + "/here/disk.raw", off_t(byteCount)) == 0 else {
      throw SystemError("make a disk")
    }
    if hasSecond {
      try Data(repeating: 0x5e, count: Self.secondByteCount)
        .write(to: URL(filePath: folder + "/here/second.raw"))
    }
    if format != "raw" {
      try await OverlayRig.run(
        "qemu-img", "convert", "-f", "raw", "-O", format, folder + "/here/disk.raw",
        folder + "/here/disk." + format)
    }
    var arguments = firmwareFolders(of: qemu)
    // A size that QEMU 7.2 under TCG loses no pages of.
    arguments += [
      "-name", "guest=\(name)", "-machine", "pc-i440fx-7.2,accel=tcg", "-nodefaults",
      "-no-user-config", "-display", "none", "-m", "65600K", "-object", "iothread,id=io0",
    ]
    let parent = folder
    func disk(_ path: String, _ format: String, in side: String) -> [String] {
      let second =
        hasSecond
        ? [
          "-blockdev", "file,node-name=f1,filename=\(parent)/\(side)/second.raw", "-blockdev",
          "raw,node-name=n1,file=f1", "-device", "virtio-blk-pci,drive=n1,id=vd1",
        ] : []
      return [
        "-blockdev", "file,node-name=f0,filename=\(path)", "-blockdev",
        "\(format),node-name=n0,file=f0",
        "-device", "virtio-blk-pci,drive=n0,id=vd0" + (iothread ? ",iothread=io0" : ""),
      ] + second + more
    }
    guest = try ChildProcess(
      qemu,
      arguments + disk(folder + "/here/disk." + format, format, in: "here") + [
        "-qmp", "unix:\(folder)/qmp,server=on,wait=off", "-qmp",
        "unix:\(folder)/own,server=on,wait=off",
      ], output: try Self.log(folder + "/qemu.log"))
    ports = [TestPort.next(), TestPort.next()]
    let quoted = (arguments + disk(destination ?? folder + "/there/disk.raw", "raw", in: "there"))
      .map { "\"\($0)\"" }.joined(separator: ", ")
    let definition = """
      program = "\(qemu)"
      arguments = [\(quoted)]
      monitor = "\(folder)/arrived"

      """
    var agents: [ChildProcess] = []
    for (side, port) in zip(["a", "b"], ports) {
      try PrivateDirectory.make("\(folder)/\(side)")
      try PrivateDirectory.make("\(folder)/\(side)/vms")
      try definition.write(
        toFile: "\(folder)/\(side)/vms/\(name).toml", atomically: true, encoding: .utf8)
      let configuration = """
        listen = "127.0.0.1:\(port)"
        stateDirectory = "\(folder)/\(side)/state"
        runtimeDirectory = "\(folder)/\(side)/run"
        definitionsDirectory = "\(folder)/\(side)/vms"
        allowedPrograms = ["\(qemu)"]

        """
      try configuration.write(
        toFile: "\(folder)/\(side)/agent.toml", atomically: true, encoding: .utf8)
      var holds: [String] = []
      if holdingDisks, side == "b" { holds = ["GODWIT_HOLD_PHASE=disks=6s"] }
      if holdingCommit, side == "a" { holds = ["GODWIT_HOLD_PHASE=commit=4s"] }
      agents.append(try Self.startAgent(folder, side, holds))
    }
    self.agents = agents
    for side in ["a", "b"] { try await untilAgentAnswers(side) }
    while (try? UnixSocket.connect(path: ownMonitor)) == nil, guest.exit == nil {
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  static func startAgent(
    _ folder: String, _ side: String, _ environment: [String] = []
  ) throws -> ChildProcess {
    try ChildProcess(
      "env",
      environment + [
        try #require(CommandProcess.binary), "agent", "--insecure", "--config",
        "\(folder)/\(side)/agent.toml",
      ],
      output: try log("\(folder)/\(side)/log"))
  }

  private static func log(_ path: String) throws -> Int32 {
    let file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    return file
  }

  func untilAgentAnswers(_ side: String) async throws {
    while (try? await client(side).version()) == nil {
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  func client(_ side: String) -> ControlClient {
    ControlClient(path: "\(folder)/\(side)/run/agent.sock")
  }

  var request: MigrationRequest {
    var request = MigrationRequest(vm: "qmp:\(monitor)", destination: "127.0.0.1:\(ports[1])")
    request.disks = DiskWishes()
    return request
  }

  func migrate(_ request: MigrationRequest) async throws -> MigrationRecord {
    for try await update in client("a").migrate(request) {
      if case .finished(let record) = update { return record }
    }
    throw SpawnError(program: "godwit agent", detail: "went away without a result")
  }

  /// Waits until so much of the disks is copied that the copy is under way.
  func untilCopying() async throws {
    while true {
      if let look = try await client("a").status().first, look.phase == .disks,
        let owed = look.diskRemainingBytes, owed > 0, look.wireBytes > 1 << 20
      {
        return
      }
      try await Task.sleep(for: .milliseconds(10))
    }
  }

  /// Carries out a request on the disk of the QEMU behind a monitor, as the guest's device would: above what a copy
  /// puts between device and disk. What it says goes to QEMU's own output.
  func use(_ command: String, on device: String = "vd0", at path: String) async throws {
    let monitor = try await Monitor.connect(path: path, timeoutMs: 60_000)
    _ = try await monitor.client.humanMonitor(
      "qemu-io -d /machine/peripheral/\(device)/virtio-backend \"\(command)\"")
    await monitor.close()
  }

  func withMonitor<T>(_ path: String, _ body: (QMPClient) async throws -> T) async throws -> T {
    let monitor = try await Monitor.connect(path: path, timeoutMs: 60_000)
    do {
      let value = try await body(monitor.client)
      await monitor.close()
      return value
    } catch {
      await monitor.close()
      throw error
    }
  }

  /// What the guest's disk holds at the source.
  func contents(_ path: String) throws -> Data { try Data(contentsOf: URL(filePath: path)) }

  /// Makes a folder another way to the source's images, as a mount would be.
  func share(at place: String) throws {
    try FileManager.default.removeItem(atPath: place)
    try FileManager.default.createSymbolicLink(
      atPath: place, withDestinationPath: folder + "/here")
  }

  /// The source takes its probes away on a thread of its own.
  func untilNoProbeIsLeft() async throws {
    while try FileManager.default.contentsOfDirectory(atPath: folder + "/here") != ["disk.raw"] {
      try await Task.sleep(for: .milliseconds(10))
    }
  }

  /// Whether anything lies at the destination.
  var isLeftBehind: Bool {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder + "/there")) ?? []
    return !names.isEmpty
  }

  func end(_ more: [ChildProcess] = []) async {
    for process in agents + more { process.send(signal: SIGKILL) }
    guest.send(signal: SIGKILL)
    _ = try? await withMonitor(arrivedMonitor) { try await $0.quit() }
    _ = await guest.wait()
    try? FileManager.default.removeItem(atPath: folder)
  }
}
