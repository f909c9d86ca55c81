import Agent
import ArgumentParser
import BlockStore
import HostIO

struct BlockAttachCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attach",
    abstract: "Put a running guest's raw disk behind godwit block serve, without stopping it.",
    discussion: """
      The server has to be there already, with the same file: godwit block serve --in-use IMAGE \
      --socket PATH. Nothing is copied: QEMU goes on through the server, and keeps the file open for \
      the way back (godwit block detach). A server whose socket a supervisor holds (LISTEN_FDS) may be \
      restarted; without a server the guest's requests wait 30 seconds and then fail. QEMU has to have been started \
      with -blockdev and node names, as libvirt starts it. QEMU doesn't say whether it passes discards on: \
      give --discard where it shall. Exit status: 0 done; 1 failed, the disk is as it was; 2 wrong usage; 3 refused.
      """)

  @Argument(help: "Name of the VM, or qmp:PATH.")
  var vm: String
  @Argument(help: "Device id, node name or path of the disk.")
  var disk: String
  @Option(help: ArgumentHelp("Unix socket of the server.", valueName: "path"))
  var socket: String
  @Option(help: "Name of the export (default: the server's first).")
  var export = ""
  @Flag(help: "The guest's discards give space back.")
  var discard = false
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard socket.hasPrefix("/") else { throw ValidationError("--socket takes an absolute path") }
  }

  func run() async throws {
    try await DiskPivotReport.run(vm, disk, json: output.json) { pivot, disk in
      try await check(disk)
      return try await pivot.attach(disk, socket: socket, export: export, discard: discard)
    }
  }

  /// Whether the server has the very file that QEMU has.
  private func check(_ disk: GuestDisk) async throws {
    let (path, export) = (socket, export)
    let session = try await WorkerThread.run("block-look") {
      let store = try RemoteStore(
        over: UnixSocket.connect(path: path), exportName: export, isReadOnly: true)
      defer { store.close() }
      return (byteCount: store.byteCount, description: store.exportDescription)
    }
    let name = disk.name
    guard session.byteCount == disk.byteCount else {
      throw GuestDiskError.otherDisk(
        name, detail: "\(session.byteCount) bytes, not \(disk.byteCount)")
    }
    let identity = try FileStore.identity(of: disk.path)
    // A move that runs counts on hearing of every write, and what QEMU wrote so far it has not heard of.
    guard session.description != identity + MovableStore.movingNote else {
      throw GuestDiskError.moving(name, detail: TerminalText.plain(session.description))
    }
    guard session.description == identity else {
      throw GuestDiskError.otherDisk(
        name, detail: "it serves \(session.description), the guest has \(identity)")
    }
  }
}

struct BlockDetachCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "detach",
    abstract: "Take a running guest's disk back from the server, without stopping it.",
    discussion: """
      QEMU goes on with the file itself. It flushes through the server before that, so a server that \
      died has to be started again first. Exit status: 0 done; 1 failed; 2 wrong usage; 3 refused.
      """)

  @Argument(help: "Name of the VM, or qmp:PATH.")
  var vm: String
  @Argument(help: "Device id or node name of the disk.")
  var disk: String
  @Flag(help: "The guest's discards give space back.")
  var discard = false
  @OptionGroup var output: OutputOptions

  func run() async throws {
    try await DiskPivotReport.run(vm, disk, json: output.json) { pivot, disk in
      try await check(disk)
      return try await pivot.detach(disk, discard: discard)
    }
  }
}

extension BlockDetachCommand {
  /// Whether the file is the disk, and nobody counts on hearing of each write.
  private func check(_ disk: GuestDisk) async throws {
    guard disk.place == .server else { return }
    guard let path = disk.serverSocket else {
      throw GuestDiskError.otherDisk(disk.name, detail: "QEMU doesn't name its server's socket")
    }
    let export = disk.serverExport ?? ""
    let description = try await WorkerThread.run("block-look") { () -> String? in
      // A server that isn't there is told of below.
      guard let socket = try? UnixSocket.connect(path: path) else { return nil }
      let store = try RemoteStore(over: socket, exportName: export, isReadOnly: true)
      defer { store.close() }
      return store.exportDescription
    }
    guard let description, description != (try FileStore.identity(of: disk.path)) else { return }
    throw GuestDiskError.moving(disk.name, detail: TerminalText.plain(description))
  }
}

/// What a pivot came to.
struct DiskPivotReport: Encodable {
  let vm, disk, file, place: String
  /// How long QEMU took to change over, in microseconds.
  let switchUs: UInt64

  static func run(
    _ vm: String, _ disk: String, json: Bool,
    _ body: (DiskPivot, GuestDisk) async throws -> UInt64
  ) async throws {
    let resolved = try await VMResolver.resolve(vm)
    let monitor = try await Monitor.connect(path: resolved.monitorPath, timeoutMs: 5000)
    do {
      let pivot = DiskPivot(monitor.client)
      let found = try await pivot.find(disk)
      let took = try await body(pivot, found)
      let now = try await pivot.find(found.name)
      await monitor.close()
      let report = DiskPivotReport(
        vm: resolved.name, disk: now.name, file: now.path,
        place: now.place == .server ? "server" : "file", switchUs: took)
      if json { return try Output.json(report) }
      Output.line(
        "\(TerminalText.plain(report.disk)) of \(TerminalText.plain(report.vm)) is on the "
          + "\(report.place), after \(took / 1000) ms")
    } catch {
      await monitor.close()
      if error is GuestDiskError { throw ControlError(.refused, "\(error)") }
      throw error
    }
  }
}
