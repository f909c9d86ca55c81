import Agent
import ArgumentParser
import BlockStore
import HostIO
import UnixSignals

struct BlockServeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve", abstract: "Serve disk images over NBD, until SIGTERM or SIGINT.",
    discussion: """
      Clients are QEMU, qemu-img, nbdcopy and whatever else speaks NBD. An image is a raw file, a block \
      device or, with --format qcow2, a qcow2 file (through qemu-nbd). Images are locked as QEMU locks \
      them, so that no other program writes to them meanwhile. A flush returns when everything that was \
      written before is on stable storage; one that fails lets every later one fail, too.

      On a unix socket clients are who may open it: its owner, and root. On TCP they speak TLS and show \
      a certificate of the same authority (godwit pki). Under systemd or another supervisor that holds \
      the sockets (LISTEN_FDS) nothing needs to be given, and a restart costs clients that reconnect a \
      short wait. SIGTERM and SIGINT: nobody new is let in, requests that have arrived are answered, \
      everything is flushed. Exit status: 0 ended so; 1 an image or a socket can't be used, or the \
      last flush failed; 2 wrong usage.
      """)

  @Argument(help: ArgumentHelp("Raw images, block devices, qcow2 images.", valueName: "image"))
  var images: [String]
  @Option(
    help: ArgumentHelp(
      "Name that clients ask for, once per image (default: the image's file name). A client that names none gets the first image.",
      valueName: "name"))
  var exportName: [String] = []
  @Option(help: "What the images are (default: raw; one that looks like qcow2 is then refused).")
  var format: ImageFormat?
  @Option(
    help: ArgumentHelp(
      "Of qcow2 images: name of a persistent dirty bitmap that each of them has, for godwit block move --base-bitmap and for clients (qemu:dirty-bitmap:NAME); once for each, 16 at most.",
      valueName: "name"))
  var bitmap: [String] = []
  @Flag(help: "Let nobody write.")
  var readOnly = false
  @Flag(help: "Read and write past the page cache (raw images whose size is a multiple of 4 KiB).")
  var direct = false
  @Flag(
    help:
      "Serve images that another program has open: neither looks for its locks nor takes any. Of qcow2 images only the size is looked at until godwit block attach, or until nobody else has them open."
  )
  var inUse = false
  @OptionGroup var sockets: BlockSocketOptions
  @Option(
    help: ArgumentHelp(
      "Socket to make for godwit block move and pull (default: that of --socket with .control behind it).",
      valueName: "path"))
  var control: String?
  @Option(
    help: ArgumentHelp(
      "Folder for the maps of moves and pulls (default: beside each image; for block devices there is none).",
      valueName: "path"))
  var maps: String?
  @Flag(
    help:
      "The sources of disks that are pulled are the same disks as before, also where their servers call them otherwise."
  )
  var trustSource = false
  @Flag(
    help:
      "The destinations of disks that have moved away are the same disks as before, also where their servers call them otherwise."
  )
  var trustDestination = false
  @Option(help: "Threads for requests that have to wait for a device (1 to 256).")
  var threads = 16
  @Option(help: "Clients that may be connected at once (1 to 1024).")
  var connections = 64
  @Option(
    help: ArgumentHelp(
      "Where Prometheus reads metrics (/metrics), and health (/healthz) and readiness (/readyz) are asked over HTTP, in the clear and for everybody who can connect (default: nowhere).",
      valueName: "address:port"))
  var metrics: String?
  @OptionGroup var output: OutputOptions

  enum ImageFormat: String, ExpressibleByArgument, CaseIterable, Sendable { case raw, qcow2 }

  func validate() throws {
    guard !images.isEmpty else { throw ValidationError("name at least one image") }
    guard exportName.isEmpty || exportName.count == images.count else {
      throw ValidationError("\(images.count) images need as many --export-name, or none")
    }
    guard (1...256).contains(threads) else { throw ValidationError("--threads takes 1 to 256") }
    guard (1...1024).contains(connections) else {
      throw ValidationError("--connections takes 1 to 1024")
    }
    if let metrics, TCPSocket.split(metrics, defaultPort: 0) == nil {
      throw ValidationError("\(TerminalText.plain(metrics)) is no address: write address:port")
    }
    guard format != .qcow2 || !direct else {
      throw ValidationError("--direct is for raw images")
    }
    guard bitmap.isEmpty || format == .qcow2 else {
      throw ValidationError("--bitmap is for --format qcow2")
    }
    guard bitmap.count <= 16, Set(bitmap).count == bitmap.count,
      bitmap.allSatisfy({ (1...1023).contains($0.utf8.count) })
    else { throw ValidationError("--bitmap takes a bitmap's name, 16 different ones at most") }
    guard format != .qcow2 || !(inUse && readOnly) else {
      throw ValidationError("qcow2 images that are in use can't be served read-only")
    }
    guard Set(names).count == names.count else {
      throw ValidationError("two images would have the same name: use --export-name")
    }
    guard names.allSatisfy({ $0.utf8.count <= 4096 }) else {
      throw ValidationError("a name has at most 4096 bytes")
    }
  }

  private var names: [String] {
    exportName.isEmpty ? images.map { String($0.split(separator: "/").last ?? "") } : exportName
  }

  func run() async throws {
    let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
    let opened = try await OpenImages.open(
      zip(images, names).map { ($0, $1) }, format: format, fileOptions, bitmaps: bitmap,
      maps: maps,
      certificates: sockets.folder.path, trustsSource: trustSource,
      trustsDestination: trustDestination)
    do {
      try await serve(opened, signals)
    } catch {
      await opened.close()
      throw error
    }
  }

  private var fileOptions: FileStore.Options {
    var options = FileStore.Options()
    (options.isReadOnly, options.isDirect, options.isInUse) = (readOnly, direct, inUse)
    return options
  }

  private func serve(_ opened: OpenImages, _ signals: UnixSignalsSequence) async throws {
    var options = DiskServer.Options()
    (options.threadCount, options.connectionsMax) = (threads, connections)
    let server = DiskServer(opened.disks, options) { Output.error($0) }
    let notReady = Guarded<String?>("the sockets are not open yet")
    let port = try await openMetrics(server, opened.disks, notReady)
    let listeners = try sockets.open()
    for (listener, secure) in listeners { server.serve(listener, secure: secure) }
    notReady.update { $0 = nil }
    let moves = try openControl(opened)
    let manager = ServiceManager.fromEnvironment()
    manager.ready(status: "serving \(opened.disks.count) disks")
    try report(opened.disks, listeners.map(\.0.name), port?.port)
    for await _ in signals { break }
    notReady.update { $0 = "the server is shutting down" }
    manager.stopping(withinMs: Self.drainMs * 2, status: "answering the last requests")
    let lost = try await WorkerThread.run("block-drain") {
      let lost = server.drain(timeoutMs: Self.drainMs)
      moves?.close()
      opened.suspendMoves()
      return lost
    }
    await port?.close()
    await opened.close()
    try reportEnd(opened.disks)
    for error in lost { Output.error("flush: \(error)") }
    guard lost.isEmpty else { throw ExitStatus.failed.exitCode }
  }

  /// nil: nobody asked for them.
  private func openMetrics(
    _ server: DiskServer, _ disks: [ServedDisk], _ notReady: Guarded<String?>
  ) async throws -> MetricsPort? {
    guard let metrics else { return nil }
    let (startedAt, connections) = (MonotonicClock.wallSeconds, connections)
    return try await MetricsPort(metrics, notReady: { notReady.read { $0 } }) {
      BlockMetrics(
        server, disks, startedAtSeconds: startedAt, connectionsMax: connections
      ).text
    }
  }

  /// nil: there is no place for it.
  private func openControl(_ opened: OpenImages) throws -> BlockControl? {
    var path = control
    if path == nil, let socket = sockets.socket {
      let beside = socket + BlockClient.suffix
      if beside.utf8.count <= UnixSocket.pathLengthMax { path = beside }
    }
    guard let path else { return nil }
    let moves = BlockControl(opened.movable, sockets.folder.path)
    moves.serve(try UnixSocket.listen(path: path))
    return moves
  }

  /// Time for clients' last answers at the end, in milliseconds.
  private static let drainMs: UInt64 = 10_000
}
