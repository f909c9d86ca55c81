import BlockStore
import Foundation
import Glibc
import HostIO
import QMP
import Testing

@testable import Agent

/// A running QEMU with a qcow2 disk on top of a backing image, and a server of that disk.
///
/// Its vCPU never runs: an NBD export of the guest's disk is used in its place, whose requests QEMU treats as the device's.
/// It has one client, which stays as a device does: QEMU 10.0.2 dies when clients of an export come and go while block jobs end.
final class OverlayRig: Sendable {
  let folder = "/tmp/godwit-overlay-\(UUID().uuidString.prefix(8))"
  let guest: ChildProcess
  private let disk: RemoteStore
  private let rounds = Guarded(0)

  var image: String { folder + "/disk.qcow2" }
  var overlay: String { image + ImageOverlay.suffix }
  var socket: String { folder + "/nbd.sock" }
  var monitor: String { folder + "/qmp" }
  private var ownMonitor: String { folder + "/own" }

  /// Bytes of one write, of the disk's part that a write falls into, and how many such parts are written to.
  private static let (written, part, parts) = (96 << 10, 1 << 20, 4)

  /// - Parameters:
  ///   - namesBacking: QEMU is given the backing image as a node, and doesn't open it by the header.
  ///   - nestsFile: the node of the file is defined within the format's.
  init(
    _ qemu: String, iothread: Bool, namesBacking: Bool = false, nestsFile: Bool = false
  ) async throws {
    try PrivateDirectory.make(folder)
    try await Self.run("qemu-img", "create", "-f", "qcow2", folder + "/base.qcow2", "8M")
    try await Self.run(
      "qemu-io", "-f", "qcow2", "-c", "write -P 251 0 8M", folder + "/base.qcow2")
    try await Self.run(
      "qemu-img", "create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2",
      folder + "/disk.qcow2")
    try await Self.run(
      "qemu-io", "-f", "qcow2", "-c", "write -P 252 6M 100k", folder + "/disk.qcow2")
    var arguments = firmwareFolders(of: qemu)
    arguments += [
      "-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none", "-S", "-m", "64",
      "-qmp", "unix:\(folder)/qmp,server=on,wait=off", "-qmp",
      "unix:\(folder)/own,server=on,wait=off", "-object", "iothread,id=io0",
      "-blockdev", "file,node-name=f0,filename=\(folder)/disk.qcow2",
      "-blockdev", "qcow2,node-name=n0,file=f0,discard=unmap" + (namesBacking ? ",backing=b0" : ""),
      "-device", "virtio-blk-pci,drive=n0,id=vd0,share-rw=on" + (iothread ? ",iothread=io0" : ""),
    ]
    if nestsFile {
      let at = try #require(arguments.firstIndex(of: "-blockdev"))
      arguments.replaceSubrange(
        (at + 1)...(at + 3),
        with: [
          "qcow2,node-name=n0,discard=unmap,file.driver=file,file.node-name=f0,file.filename=\(folder)/disk.qcow2"
        ])
    }
    if namesBacking {
      let at = try #require(arguments.firstIndex(of: "-blockdev"))
      arguments.insert(
        contentsOf: [
          "-blockdev", "file,node-name=fb,filename=\(folder)/base.qcow2,read-only=on",
          "-blockdev", "qcow2,node-name=b0,file=fb,read-only=on",
        ], at: at)
    }
    let output = open(folder + "/qemu.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    defer { close(output) }
    guest = try ChildProcess(qemu, arguments, output: output)
    let (own, export) = (folder + "/own", folder + "/own.nbd")
    try await Self.untilAnswers(own, guest)
    try await Self.ask(own) { client in
      try await client.execute(
        "nbd-server-start", ["addr": ["type": "unix", "data": ["path": .string(export)]]])
      try await client.execute(
        "block-export-add",
        ["type": "nbd", "id": "e0", "node-name": "n0", "name": "g", "writable": true])
    }
    disk = try await WorkerThread.run("guest-open") {
      try RemoteStore(over: UnixSocket.connect(path: export), exportName: "g", isReadOnly: false)
    }
  }

  static func run(_ program: String, _ arguments: String...) async throws {
    try #require(await exit(program, arguments) == .code(0), "\(program) \(arguments)")
  }

  static func exit(_ program: String, _ arguments: [String]) async throws -> ProcessExit {
    try await ChildProcess(program, arguments).wait()
  }

  static func untilAnswers(_ path: String, _ child: ChildProcess) async throws {
    while child.exit == nil, (try? UnixSocket.connect(path: path)) == nil {
      try await Task.sleep(for: .milliseconds(20))
    }
    try #require(child.exit == nil)
  }

  /// Over the test's own monitor.
  @discardableResult
  func ask<T>(_ body: (QMPClient) async throws -> T) async throws -> T {
    try await Self.ask(ownMonitor, body)
  }

  @discardableResult
  static func ask<T>(_ path: String, _ body: (QMPClient) async throws -> T) async throws -> T {
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

  /// The node that the guest's device uses.
  static func place(_ client: QMPClient) async throws -> String? {
    try await client.queryBlock().first?.node?.nodeName
  }

  func serve() async throws -> ChildProcess {
    let server = try ChildProcess(
      try #require(CommandProcess.binary),
      ["block", "serve", "--in-use", "--format", "qcow2", image, "--socket", socket])
    try await Self.untilAnswers(socket + ".control", server)
    return server
  }

  func block(_ command: String, _ more: String...) async throws -> (status: Int32, output: String) {
    let target = command == "attach" ? ["--socket", socket] : []
    return try await CommandProcess(
      ["block", command, "qmp:\(monitor)", "vd0"] + target + more + ["--json"]
    ).end()
  }

  // MARK: The guest's load

  /// Each round has a value of its own; the writes begin inside clusters and end inside others.
  private static func offset(_ part: Int) -> Int { part * Self.part + 12_288 }

  /// Writes a round, reads it back, and flushes.
  func write() async throws {
    let round = rounds.update { rounds in
      rounds += 1
      return rounds
    }
    let (disk, value) = (disk, UInt8(round % 250 + 1))
    let isSame = try await WorkerThread.run("guest-write") {
      let (there, back) = (
        PageBuffer(byteCount: Self.written), PageBuffer(byteCount: Self.written)
      )
      there.part(0, Self.written).initializeMemory(as: UInt8.self, repeating: value)
      var isSame = true
      for part in 0..<Self.parts {
        let offset = UInt64(Self.offset(part))
        try disk.write(
          UnsafeRawBufferPointer(there.part(0, Self.written)), at: offset, durable: false)
        try disk.read(at: offset, into: back.part(0, Self.written))
        isSame = isSame && back.part(0, Self.written).allSatisfy { $0 == value }
      }
      try disk.flush()
      return isSame
    }
    #expect(isSame, "round \(round)")
  }

  /// Goes on writing while `body` runs.
  func writing<T: Sendable>(_ body: @Sendable () async throws -> T) async throws -> T {
    let isOver = Guarded(false)
    async let writer: Void = {
      repeat { try await write() } while !isOver.read { $0 }
    }()
    let result: Result<T, any Error>
    do { result = .success(try await body()) } catch { result = .failure(error) }
    isOver.update { $0 = true }
    try await writer
    return try result.get()
  }

  /// What the last round wrote, and what was there before: a value, from where on, and how many bytes.
  private var contents: [(value: Int, offset: Int, count: Int)] {
    let value = rounds.read { $0 } % 250 + 1
    return (0..<Self.parts).map { (value, Self.offset($0), Self.written) } + [
      (252, 6 << 20, 100 << 10), (251, 0, 12 << 10), (251, 5 << 20, 1 << 20),
      (251, 7 << 20, 1 << 20),
    ]
  }

  /// Whether the guest reads what it has written.
  func guestReadsAll() async throws -> Bool {
    let (disk, contents) = (disk, contents)
    return try await WorkerThread.run("guest-read") {
      let buffer = PageBuffer(byteCount: 1 << 20)
      for (value, offset, count) in contents {
        let part = buffer.part(0, count)
        try disk.read(at: UInt64(offset), into: part)
        guard part.allSatisfy({ $0 == UInt8(value) }) else { return false }
      }
      return true
    }
  }

  /// Ends the server and the guest; the image has then what was written.
  func endsWhole(_ server: ChildProcess) async throws {
    await server.stop()
    await quit()
    #expect(try await holdsAll(image))
    remove()
  }

  /// Whether an image that nobody has open holds it, and is sound.
  func holdsAll(_ image: String) async throws -> Bool {
    guard try await Self.exit("qemu-img", ["check", "-q", image]) == .code(0) else { return false }
    let reads = contents.flatMap { ["-c", "read -P \($0.value) \($0.offset) \($0.count)"] }
    return try await Self.exit("qemu-io", ["-f", "qcow2", "-r"] + reads + [image]) == .code(0)
  }

  /// Whether the server's clients read it.
  func serverHasAll() async throws -> Bool {
    let reads = contents.flatMap { ["-c", "read -P \($0.value) \($0.offset) \($0.count)"] }
    return try await Self.exit("qemu-io", ["-f", "raw", "-r"] + reads + [uri]) == .code(0)
  }

  var uri: String { "nbd+unix:///disk.qcow2?socket=\(socket)" }

  func quit() async {
    guest.send(signal: SIGKILL)
    _ = await guest.wait()
  }

  func remove() { try? FileManager.default.removeItem(atPath: folder) }

  var names: Set<String> {
    Set((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [])
  }
}
