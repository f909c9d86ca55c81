import Agent
import ArgumentParser
import BlockStore
import HostIO

struct BlockAttachCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attach",
    abstract:
      "Put a running guest's raw or qcow2 disk behind godwit block serve, without stopping it.",
    discussion: """
      The server has to be there already, with the same file: godwit block serve --in-use IMAGE \
      --socket PATH. Of a raw disk nothing is copied: QEMU goes on through the server, and keeps the file open for \
      the way back (godwit block detach). A server whose socket a supervisor holds (LISTEN_FDS) may be \
      restarted; without a server the guest's requests wait 30 seconds and then fail. QEMU has to have been started \
      with -blockdev and node names, as libvirt starts it. QEMU doesn't say whether it passes discards on: \
      give --discard where it shall.
      What QEMU writes to the file itself the server doesn't note: a snapshot (godwit block snapshot) counts no more after that, nor \
      after godwit block detach.

      A qcow2 disk (godwit block serve --format qcow2 --in-use) can't be open for writing in two programs. While it \
      changes hands, the guest writes to an overlay, IMAGE.godwit-overlay, which QEMU makes; what is in it is copied to the \
      image then, and the file is removed. As long as that file is there, the disk is the file on top of the image. A \
      command that was interrupted, or killed, is given again, or the opposite one: a process of its own sees to it that the guest \
      isn't left waiting.
      Dirty bitmaps that are persistent are kept, and go on recording; a disk with others is refused, unless --drop-bitmaps \
      is given: QEMU forgets them with the node that they belong to.

      Exit status: 0 done; 1 failed, the disk is as it was, or the message says where; 2 wrong usage; 3 refused.
      """)

  @Argument(help: "Name of the VM, or qmp:PATH.")
  var vm: String
  @Argument(help: "Device id, node name or path of the disk.")
  var disk: String
  @Option(help: ArgumentHelp("Unix socket of the server.", valueName: "path"))
  var socket: String
  @Option(help: "Name of the export (default: the server's first).")
  var export = ""
  @Option(
    help: ArgumentHelp(
      "Control socket of the server (default: that path with .control behind it).",
      valueName: "path"))
  var control: String?
  @Flag(help: "The guest's discards give space back.")
  var discard = false
  @Flag(help: "Go on though QEMU forgets dirty bitmaps of a qcow2 disk that aren't persistent.")
  var dropBitmaps = false
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard socket.hasPrefix("/") else { throw ValidationError("--socket takes an absolute path") }
  }

  func run() async throws {
    try await DiskPivotReport.run(vm, disk, json: output.json) { pivot, disk in
      try await check(disk.name, disk.byteCount, disk.path)
      let bypass = BlockBypass(
        disk: disk.name, socket: socket, export: export, control: control)
      try await bypass.tell()
      let took = try await pivot.attach(disk, socket: socket, export: export, discard: discard)
      // Of a snapshot that was being taken meanwhile.
      try? await bypass.tell()
      return took
    } overlaid: { pivot, disk in
      try await check(disk.name, disk.byteCount, disk.path)
      return try await pivot.attach(
        disk, to: BlockImageServer(socket: socket, export: export, control: control),
        discard: discard, dropsBitmaps: dropBitmaps)
    }
  }

  /// Whether the server has the very file that QEMU has.
  private func check(_ name: String, _ byteCount: UInt64, _ image: String) async throws {
    let (path, export) = (socket, export)
    let session = try await WorkerThread.run("block-look") {
      let store = try RemoteStore(
        over: UnixSocket.connect(path: path), exportName: export, isReadOnly: true)
      defer { store.close() }
      return (byteCount: store.byteCount, description: store.exportDescription)
    }
    guard session.byteCount == byteCount else {
      throw GuestDiskError.otherDisk(
        name, detail: "\(session.byteCount) bytes, not \(byteCount)")
    }
    let told = session.description
    // A move that runs counts on hearing of every write, and what QEMU wrote so far it has not heard of.
    if told.hasSuffix(MovableStore.movingNote),
      try ExportIdentity.isOwn(String(told.dropLast(MovableStore.movingNote.count)), image)
    {
      throw GuestDiskError.moving(name, detail: TerminalText.plain(told))
    }
    guard try ExportIdentity.isOwn(told, image) else {
      let own = try ExportIdentity.of(image)
      throw GuestDiskError.otherDisk(
        name, detail: "it serves \(TerminalText.plain(told)), the guest has \(own)")
    }
  }
}

struct BlockDetachCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "detach",
    abstract: "Take a running guest's disk back from the server, without stopping it.",
    discussion: """
      QEMU goes on with the file itself. It flushes through the server before that, so a server that \
      died has to be started again first. A qcow2 disk goes back over an overlay, as it came (godwit block attach). \
      Exit status: 0 done; 1 failed, the disk is as it was, or the message says where; 2 wrong usage; 3 refused.
      """)

  @Argument(help: "Name of the VM, or qmp:PATH.")
  var vm: String
  @Argument(help: "Device id or node name of the disk.")
  var disk: String
  @Option(
    help: ArgumentHelp(
      "Control socket of the server (default: its socket with .control behind it).",
      valueName: "path"))
  var control: String?
  @Flag(help: "The guest's discards give space back.")
  var discard = false
  @Flag(help: "Go on though QEMU forgets dirty bitmaps of a qcow2 disk that aren't persistent.")
  var dropBitmaps = false
  @OptionGroup var output: OutputOptions

  func run() async throws {
    try await DiskPivotReport.run(vm, disk, json: output.json) { pivot, disk in
      guard disk.place == .server else { throw GuestDiskError.notAttached(disk.name) }
      try await check(disk.name, disk.path, disk.serverSocket, disk.serverExport)
      if let socket = disk.serverSocket {
        try await BlockBypass(
          disk: disk.name, socket: socket, export: disk.serverExport ?? "", control: control
        ).tell()
      }
      return try await pivot.detach(disk, discard: discard)
    } overlaid: { pivot, disk in
      guard disk.place == .server || disk.place == .overServer else {
        // On the way from its image, the disk needs no server to go back; one that is known is told.
        return try await pivot.detach(
          disk,
          from: BlockImageServer(
            socket: disk.serverSocket, export: disk.serverExport ?? "", control: control),
          discard: discard, dropsBitmaps: dropBitmaps)
      }
      try await check(disk.name, disk.path, disk.serverSocket, disk.serverExport)
      return try await pivot.detach(
        disk,
        from: BlockImageServer(
          socket: disk.serverSocket, export: disk.serverExport ?? "", control: control),
        discard: discard, dropsBitmaps: dropBitmaps)
    }
  }
}

extension BlockDetachCommand {
  /// Whether the file is the disk, and nobody counts on hearing of each write.
  private func check(
    _ name: String, _ image: String, _ socket: String?, _ export: String?
  ) async throws {
    guard let path = socket else {
      throw GuestDiskError.otherDisk(name, detail: "QEMU doesn't name its server's socket")
    }
    let export = export ?? ""
    let description = try await WorkerThread.run("block-look") {
      let socket: StreamSocket
      do {
        socket = try UnixSocket.connect(path: path)
      } catch {
        throw GuestDiskError.serverGone(name, detail: "\(error)")
      }
      let store = try RemoteStore(over: socket, exportName: export, isReadOnly: true)
      defer { store.close() }
      return store.exportDescription
    }
    guard try !ExportIdentity.isOwn(description, image) else { return }
    throw GuestDiskError.moving(name, detail: TerminalText.plain(description))
  }
}
