import BlockStore
import Foundation
import Glibc
import HostIO
import NBD
import Testing

/// Our server with clients of others.
@Suite struct InteropTests {
  let folder = try! ScratchFolder()

  private func server(byteCount: UInt64 = 32 << 20) throws -> (RunningServer, String) {
    let path = try folder.image(byteCount: byteCount)
    return (try RunningServer(try FileStore(path: path)), path)
  }

  @Test(.timeLimit(.minutes(1)), .enabled(if: Program.exists("nbdinfo"), "no nbdinfo"))
  func nbdinfoSeesWhatThereIs() async throws {
    let (running, path) = try server()
    let writer = try FileHandle(forUpdating: URL(filePath: path))
    try writer.seek(toOffset: 1 << 20)
    try writer.write(contentsOf: Data(repeating: 1, count: 65536))
    let text = try await Command.run("nbdinfo", ["--json", running.uri])
    for expected in [
      "\"export-name\": \"disk\"", "\"export-size\": 33554432", "\"can_multi_conn\": true",
      "\"can_fua\": true", "\"can_fast_zero\": true", "\"block_size_minimum\": 1",
      "base:allocation", "\"structured\": true",
    ] { #expect(text.contains(expected), "\(expected) in \(text)") }
    let map = try await Command.run("nbdinfo", ["--map", running.uri])
    let rows = map.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
    #expect(
      rows.map { $0.prefix(3) } == [
        ["0", "1048576", "3"], ["1048576", "65536", "0"], ["1114112", "32440320", "3"],
      ])
    let list = try await Command.run("nbdinfo", ["--list", running.uri])
    #expect(list.contains("export=\"disk\""))
    let missing = try await Command.execute(
      "nbdinfo", ["nbd+unix:///other?socket=\(running.socket)"])
    #expect(!missing.exit.isSuccess)
  }

  @Test(.timeLimit(.minutes(1)), .enabled(if: Program.exists("nbdcopy"), "no nbdcopy"))
  func nbdcopyCopiesBothWays() async throws {
    let (running, path) = try server()
    let source = folder.path + "/source.raw"
    try await Command.run("dd", ["if=/dev/urandom", "of=\(source)", "bs=1M", "count=20"])
    truncate(source, 32 << 20)
    try await Command.run("nbdcopy", ["--flush", source, running.uri])
    try await Command.run("cmp", [source, path])
    let back = folder.path + "/back.raw"
    try await Command.run("nbdcopy", [running.uri, back])
    try await Command.run("cmp", [source, back])
  }

  @Test(.timeLimit(.minutes(1)), .enabled(if: Program.exists("qemu-io"), "no qemu-io"))
  func qemuIOWritesZeroesAndReadsBack() async throws {
    let (running, _) = try server()
    let commands = [
      "write -P 0xab 0 1M", "write -P 0xcd -f 1000001 70001", "read -P 0xab 0 1000001",
      "read -P 0xcd 1000001 70001", "write -z -u 4k 64k", "read -P 0 4k 64k",
      "read -P 0xab 0 4k", "read -P 0xab 68k 4k", "write -z 100k 10k", "read -P 0 100k 10k",
      "discard 2M 1M", "flush", "aio_write -P 0x11 5M 256k", "aio_write -P 0x12 6M 256k",
      "aio_read -P 0xab 200k 100k", "aio_flush", "read -P 0x11 5M 256k", "read -P 0x12 6M 256k",
      "readv -P 0x12 6M 4k 8k 16k", "map",
    ]
    let result = try await Command.execute(
      "qemu-io", ["-f", "raw"] + commands.flatMap { ["-c", $0] } + [running.uri])
    #expect(result.exit.isSuccess, "\(result.output)")
    #expect(!result.output.contains("failed"), "\(result.output)")
    let refused = try await Command.execute(
      "qemu-io", ["-f", "raw", "-r", "-c", "write 0 4k", running.uri])
    #expect(!refused.exit.isSuccess || refused.output.contains("not permitted"))
  }

  @Test(.timeLimit(.minutes(1)), .enabled(if: Program.exists("qemu-img"), "no qemu-img"))
  func qemuImgConvertsThroughTheServer() async throws {
    let (running, path) = try server()
    let source = folder.path + "/source.qcow2"
    try await Command.run("qemu-img", ["create", "-q", "-f", "qcow2", source, "32M"])
    try await Command.run(
      "qemu-io", ["-c", "write -P 3 1M 3M", "-c", "write -P 4 20000000 99999", source])
    try await Command.run(
      "qemu-img", ["convert", "-n", "-f", "qcow2", "-O", "raw", source, running.uri])
    try await Command.run(
      "qemu-img", ["compare", "-f", "qcow2", "-F", "raw", source, running.uri])
    let map = try await Command.run("qemu-img", ["map", "--output=json", running.uri])
    #expect(map.contains("\"zero\": true") && map.contains("\"data\": true"))
    var status = stat()
    stat(path, &status)
    // What was zero at the source has no blocks here.
    #expect(status.st_blocks * 512 < 6 << 20)
  }

  @Test(.timeLimit(.minutes(1)), .enabled(if: Program.exists("fio"), "no fio"), arguments: [1, 8])
  func fioVerifiesWhatItWrote(connections: Int) async throws {
    let (running, _) = try server()
    let result = try await Command.execute(
      "fio",
      [
        "--name=verify", "--ioengine=nbd", "--uri=\(running.uri)", "--rw=randwrite", "--bs=4k-64k",
        "--iodepth=16", "--size=4m", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0",
        "--fsync=32",
        "--numjobs=\(connections)", "--offset_increment=4m", "--group_reporting",
      ], timeoutMs: 50_000)
    if result.output.contains("not loadable") { return }
    #expect(result.exit.isSuccess, "\(result.output)")
  }

  @Test(.timeLimit(.minutes(1)), .enabled(if: Program.exists("qemu-nbd"), "no qemu-nbd"))
  func qcow2IsServedThroughQemuNBD() async throws {
    let image = folder.path + "/disk,1.qcow2"
    try await Command.run("qemu-img", ["create", "-q", "-f", "qcow2", image, "16M"])
    let opened = try await Qcow2Image.open(image, .locked, in: folder.path + "/child")
    #expect(!FileManager.default.fileExists(atPath: folder.path + "/child"))
    let running = try RunningServer(opened.store)
    let result = try await Command.execute(
      "qemu-io",
      [
        "-f", "raw", "-c", "write -P 0x5a 1M 1M", "-c", "write -z 1536k 64k", "-c", "discard 3M 1M",
        "-c", "read -P 0x5a 1M 512k", "-c", "flush", running.uri,
      ])
    #expect(result.exit.isSuccess, "\(result.output)")
    let map = try await Command.run("qemu-img", ["map", "--output=json", running.uri])
    #expect(map.contains("\"data\": true"), "\(map)")
    #expect(try await WorkerThread.run("drain") { running.server.drain(timeoutMs: 5000) }.isEmpty)
    await opened.close()
    try await Command.run(
      "qemu-io", ["-c", "read -P 0x5a 1M 512k", "-c", "read -P 0 1536k 64k", image])
    try await Command.run("qemu-img", ["check", "-q", image])
  }

  @Test(.timeLimit(.minutes(1)), .enabled(if: Program.exists("qemu-nbd"), "no qemu-nbd"))
  func whatIsNoQcow2IsRefused() async throws {
    let raw = try folder.image(byteCount: 1 << 20)
    await #expect(throws: SpawnError.self) {
      try await Qcow2Image.open(raw, .locked, in: folder.path + "/child")
    }
  }

  /// Our client with another server.
  @Test(.timeLimit(.minutes(1)), .enabled(if: Program.exists("nbdkit"), "no nbdkit"))
  func ourClientWithNbdkit() async throws {
    let socket = folder.path + "/nbdkit.sock"
    let child = try ChildProcess("nbdkit", ["-f", "-U", socket, "memory", "16M"])
    var connected: StreamSocket?
    while connected == nil, child.exit == nil {
      connected = try? UnixSocket.connect(path: socket)
      if connected == nil { try await Task.sleep(for: .milliseconds(10)) }
    }
    let connection = try #require(connected)
    try await WorkerThread.run("test") {
      let store = try RemoteStore(over: connection, exportName: "", isReadOnly: false)
      defer { store.close() }
      #expect(store.byteCount == 16 << 20)
      try store.put([UInt8](repeating: 9, count: 300_000), at: 77)
      try store.zero(at: 100_000, count: 100_000, [])
      try store.flush()
      let bytes = try store.bytes(at: 0, count: 400_000)
      #expect(bytes[..<77].allSatisfy { $0 == 0 } && bytes[77..<100_000].allSatisfy { $0 == 9 })
      #expect(bytes[100_000..<200_000].allSatisfy { $0 == 0 })
      #expect(bytes[200_000..<300_077].allSatisfy { $0 == 9 })
      #expect(try store.status(at: 0, count: 16 << 20, extentsMax: 10).count >= 2)
    }
    await child.terminate()
  }
}

enum Program {
  /// Whether a program is installed.
  static func exists(_ name: String) -> Bool {
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
    return path.split(separator: ":").contains { SmallFile.isExecutable("\($0)/\(name)") }
  }
}
