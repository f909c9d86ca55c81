import Foundation
import Glibc
import HostIO
import PKI
import Testing

@testable import Agent

/// `godwit block serve` as it is run: sockets, signals, exit status.
@Suite(.enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct BlockServeTests {
  private let folder = "/tmp/godwit-serve-\(UUID().uuidString.prefix(8))"
  private var image: String { folder + "/disk.raw" }
  private var socket: String { folder + "/nbd.sock" }

  init() throws {
    try PrivateDirectory.make(folder)
    try Data(repeating: 7, count: 1 << 20).write(to: URL(filePath: image))
  }

  /// Runs `body` while the server runs, ends it with a signal, and gives back how it ended.
  private func serving(
    _ arguments: [String], at path: String? = nil, signal: Int32 = SIGTERM,
    _ body: () async throws -> Void
  ) async throws -> (status: Int32, output: String) {
    let command = try CommandProcess(["block", "serve"] + arguments)
    while true {
      if (try? UnixSocket.connect(path: path ?? socket)) != nil { break }
      try await Task.sleep(for: .milliseconds(10))
    }
    let result: Result<Void, any Error>
    do { result = .success(try await body()) } catch { result = .failure(error) }
    command.send(signal: signal)
    let end = await command.end()
    try result.get()
    try? FileManager.default.removeItem(atPath: folder)
    return end
  }

  @Test(.timeLimit(.minutes(4)), arguments: [SIGTERM, SIGINT])
  func servesUntilItIsTold(signal: Int32) async throws {
    let uri = "nbd+unix:///disk.raw?socket=\(socket)"
    let end = try await serving([image, "--socket", socket, "--json"], signal: signal) {
      try await Command.run(
        "qemu-io", ["-f", "raw", "-c", "read -P 7 0 1M", "-c", "write -P 8 0 4k", uri])
    }
    #expect(end.status == 0)
    let lines = try end.output.split(separator: "\n").map {
      try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
    }
    #expect(lines.map { $0?["event"] as? String } == ["serving", "ended"])
    #expect(lines[0]?["listening"] as? [String] == [socket])
    let use = (lines[1]?["exports"] as? [[String: Any]])?.first
    #expect(use?["writes"] as? Int == 1 && use?["errors"] as? Int == 0)
    #expect(use?["readBytes"] as? Int ?? 0 >= 1 << 20)
  }

  @Test(.timeLimit(.minutes(4))) func readOnlyIsReadOnly() async throws {
    let arguments = [image, "--socket", socket, "--read-only", "--export-name", "x"]
    let end = try await serving(arguments) {
      let text = try await Command.run(
        "nbdinfo", ["nbd+unix:///x?socket=\(socket)"])
      #expect(text.contains("is_read_only: true"))
    }
    #expect(end.status == 0)
  }

  @Test(.timeLimit(.minutes(4))) func directImages() async throws {
    let end = try await serving([image, "--socket", socket, "--direct"]) {
      let text = try await Command.run(
        "qemu-io",
        [
          "-f", "raw", "-c", "write -P 9 8k 64k", "-c", "read -P 9 8k 64k", "-c", "read -P 7 0 8k",
          "-c", "write -P 5 100 1000", "-c", "read -P 5 100 1000",
          "nbd+unix:///?socket=\(socket)",
        ])
      #expect(!text.contains("failed"), "\(text)")
    }
    #expect(end.status == 0)
  }

  @Test(.timeLimit(.minutes(4))) func severalImagesAndQcow2() async throws {
    let paths = [folder + "/a.qcow2", folder + "/b.qcow2"]
    for path in paths {
      try await Command.run("qemu-img", ["create", "-q", "-f", "qcow2", path, "8M"])
    }
    let end = try await serving(paths + ["--format", "qcow2", "--socket", socket]) {
      let list = try await Command.run("nbdinfo", ["--list", "nbd+unix:///?socket=\(socket)"])
      #expect(list.contains("export=\"a.qcow2\"") && list.contains("export=\"b.qcow2\""))
      try await Command.run(
        "qemu-io", ["-f", "raw", "-c", "write -P 1 0 1M", "nbd+unix:///b.qcow2?socket=\(socket)"])
    }
    #expect(end.status == 0)
  }

  /// What runs underneath ends with a server that was killed, and the image can be opened again.
  @Test(.timeLimit(.minutes(4))) func aKilledServerLeavesNothingBehind() async throws {
    let path = folder + "/a.qcow2"
    try await Command.run("qemu-img", ["create", "-q", "-f", "qcow2", path, "8M"])
    let end = try await serving(
      [path, "--format", "qcow2", "--socket", socket], signal: SIGKILL
    ) {
      try await Command.run(
        "qemu-io",
        ["-f", "raw", "-c", "write -P 6 0 1M", "-c", "flush", "nbd+unix:///?socket=\(socket)"])
      // Meanwhile nobody else may write.
      let other = try await Command.execute("qemu-io", ["-c", "write 0 4k", path])
      #expect(!other.exit.isSuccess)
      try FileManager.default.linkItem(atPath: path, toPath: folder + "-image")
    }
    #expect(end.status == -1)  // a signal
    let image = folder + "-image"
    defer { try? FileManager.default.removeItem(atPath: image) }
    while true {
      let result = try await Command.execute(
        "qemu-io", ["-f", "qcow2", "-c", "read -P 6 0 1M", image])
      if result.exit.isSuccess { break }
      try await Task.sleep(for: .milliseconds(20))
    }
    try await Command.run("qemu-img", ["check", "-q", image])
  }

  /// What is started underneath and has no client yet doesn't outlive a server that is killed, also when it loses a signal.
  @Test(.timeLimit(.minutes(4))) func whatStartsUnderAKilledServerEnds() async throws {
    let binary = try #require(CommandProcess.binary)
    // In place of qemu-nbd: it never serves, and ends at the second signal only.
    let program = folder + "/qemu-nbd"
    let script = """
      #!/bin/sh
      trap 'test -n "$lost" && exit; lost=1' TERM
      echo $$ >"$0.new"; mv "$0.new" "$0.pid"
      while :; do sleep 0.05; done
      """
    try Data(script.utf8).write(to: URL(filePath: program))
    chmod(program, 0o700)
    let server = try ChildProcess(
      "sh",
      [
        "-c", "PATH=\"$0:$PATH\" exec \"$@\"", folder, binary, "block", "serve", image, "--format",
        "qcow2", "--socket", socket,
      ])
    while !FileManager.default.fileExists(atPath: program + ".pid") {
      try #require(server.exit == nil)
      try await Task.sleep(for: .milliseconds(10))
    }
    let text = try String(contentsOfFile: program + ".pid", encoding: .utf8)
    let pid = try #require(Int32(text.trimmingCharacters(in: .newlines)))
    let started = try #require(ProcessIdentity(pid: pid))
    defer { _ = try? started.signal(SIGKILL) }
    server.send(signal: SIGKILL)
    _ = await server.wait()
    while started.isAlive { try await Task.sleep(for: .milliseconds(20)) }
    try FileManager.default.removeItem(atPath: folder)
  }

  @Test(.timeLimit(.minutes(4))) func whatCantBeServedIsSaid() async throws {
    let qcow2 = folder + "/a.qcow2"
    try await Command.run("qemu-img", ["create", "-q", "-f", "qcow2", qcow2, "8M"])
    let cases: [([String], Int32)] = [
      ([image], 2), ([], 2), ([image, image, "--socket", socket], 2),
      ([qcow2, "--socket", socket], 2), ([folder + "/none", "--socket", socket], 1),
      ([image, "--format", "qcow2", "--socket", socket], 1),
      ([image, "--listen", "0.0.0.0:0", "--insecure"], 2),
      ([image, "--listen", "127.0.0.1:0", "--dir", folder + "/none"], 1),
      ([image, "--socket", socket, "--threads", "0"], 2),
      ([image, "--socket", socket, "--export-name", "a", "--export-name", "b"], 2),
    ]
    for (arguments, status) in cases {
      let end = try await CommandProcess(["block", "serve"] + arguments).end()
      #expect(end.status == status, "\(arguments)")
    }
    try FileManager.default.removeItem(atPath: folder)
  }

  /// The socket belongs to a supervisor: the server is killed with a client waiting, the next one
  /// takes the same socket over, and the client's request is answered there.
  @Test(.timeLimit(.minutes(4))) func aSupervisorsSocketOutlivesTheServer() async throws {
    let binary = try #require(CommandProcess.binary)
    // Two lives on one inherited socket. The shell's `exec` keeps the process id that is named.
    let listener = try UnixSocket.listen(path: socket)
    let inherited = fcntl(listener.raw, F_DUPFD, 100)
    defer { close(inherited) }
    let script = """
      exec 3<&\(inherited); LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" block serve "$1"
      """
    func life() throws -> ChildProcess { try ChildProcess("bash", ["-c", script, binary, image]) }
    let uri = "nbd+unix:///disk.raw?socket=\(socket)"
    let first = try life()
    try await Command.run("qemu-io", ["-f", "raw", "-c", "write -P 3 0 4k", "-c", "flush", uri])
    first.send(signal: SIGKILL)
    _ = await first.wait()
    // Nobody serves: this one waits in the socket's queue until somebody does.
    async let waiting = Command.run("qemu-io", ["-f", "raw", "-c", "read -P 3 0 4k", uri])
    let second = try life()
    #expect(try await !waiting.contains("failed"))
    second.send(signal: SIGTERM)
    #expect(await second.wait() == .code(0))
    #expect(FileManager.default.fileExists(atPath: socket))
    try FileManager.default.removeItem(atPath: folder)
  }

  @Test(.timeLimit(.minutes(4))) func tlsLetsInWhoHasACertificate() async throws {
    for name in ["ours", "theirs"] {
      let server = "\(folder)/\(name)"
      for arguments in [["init"], ["host", "localhost", "127.0.0.1"]] {
        let end = try await CommandProcess(["pki"] + arguments + ["--dir", server]).end()
        #expect(end.status == 0)
      }
      // The same under libnbd's names for the files.
      try PrivateDirectory.make(server + "-client")
      for (from, to) in [
        ("ca.pem", "ca-cert.pem"), ("host.pem", "client-cert.pem"),
        ("host-key.pem", "client-key.pem"),
      ] {
        try FileManager.default.copyItem(
          atPath: "\(server)/\(from)", toPath: "\(server)-client/\(to)")
      }
    }
    let port = TestPort.next()
    let listen = "127.0.0.1:\(port)"
    let arguments = [
      image, "--socket", socket, "--listen", listen, "--dir", folder + "/ours",
    ]
    func info(_ scheme: String, _ certificates: String?) async throws -> Command.Result {
      let query = certificates.map { "?tls-certificates=\(folder)/\($0)-client" } ?? ""
      return try await Command.execute(
        "nbdinfo", ["--size", "\(scheme)://localhost:\(port)/disk.raw\(query)"])
    }
    let end = try await serving(arguments) {
      let good = try await info("nbds", "ours")
      #expect(good.exit.isSuccess && good.output.contains("1048576"), "\(good.output)")
      #expect(try await !info("nbd", nil).exit.isSuccess)
      #expect(try await !info("nbds", "theirs").exit.isSuccess)
    }
    #expect(end.status == 0)
  }
}
