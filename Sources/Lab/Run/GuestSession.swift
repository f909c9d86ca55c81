import Agent
import Base
import Glibc
import HostIO

/// A fresh guest at the source with its clients, and everything that a migration of it needs.
struct GuestSession: Sendable {
  let options: LabOptions
  let hosts: HostPair
  let folder: RunFolder
  let commandLine: GuestCommandLine
  /// Starts the names of this session's files.
  let label: String
  let serial: SerialCapture
  let source: GuestProcess
  let client: StoreClient?
  let disk: String?
  let rootDisk: String?
  /// What the guest has that disk behind, if anything.
  let server: GuestDiskServer?
  /// Which of several guests on the same hosts this is, from 0. The hosts' bridges have room for the first one; others
  /// have a network of their own that leads nowhere.
  let number: Int
  /// Where the guest was started.
  let home: HostPair.Side

  static let bootTimeoutMs: UInt64 = 120_000
  /// Ports on 127.0.0.1 for the guest's memcached, where there is no bridge.
  static let userPorts: (source: UInt16, destination: UInt16) = (21211, 21212)

  /// Boots the guest and waits until its workload and the clients run.
  ///
  /// - Parameters:
  ///   - number: not 0 for further guests on the same hosts; they can have no clients.
  ///   - home: where it is started: at the destination, when it is to come back there.
  static func start(
    options: LabOptions, commandLine: GuestCommandLine, hosts: HostPair, folder: RunFolder,
    label: String, number: Int = 0, home: HostPair.Side = .source
  ) async throws -> GuestSession {
    let disk = options.guest.hasDisk ? folder.file("\(label)-disk.raw") : nil
    if let disk { try await GuestDisk.create(disk) }
    var root: String?
    if let size = options.guest.rootDisk { root = try await RootDisk.prepare(size) }
    if options.movesRootDisk, let image = root {
      let own = folder.file("\(label)-root.raw")
      try await Command.run("cp", ["--sparse=always", image, own], timeoutMs: 300_000)
      root = own
    }
    let serial = SerialCapture()
    for side in HostPair.Side.allCases {
      try serial.listen(
        at: serialPath(folder, label, side), side: side == .source ? .source : .destination)
    }
    let monitor = folder.file("\(label)-source.qmp")
    var placement = placement(
      home == .source ? .source : .destinationOfAgent, hosts: hosts, folder: folder, label: label,
      monitor: monitor, disks: (disk, root), number: number)
    placement.role = .source
    placement.isRootWritable = options.movesRootDisk
    let source = try GuestProcess.start(
      commandLine.source, arguments: try commandLine.arguments(for: placement),
      monitorPath: monitor, on: hosts, side: home, folder: folder)
    var server: GuestDiskServer?
    do {
      try await serial.waitUntilReady(timeoutMs: bootTimeoutMs) { source.isAlive }
      if options.servesDisk, let disk {
        // The guest's load is under way.
        let served = GuestDiskServer(
          disk, program: try LabAgent.program(options), hosts: hosts, side: home, folder: folder,
          label: label)
        server = served
        if options.tuning.diskMethod == .waio {
          try DiskImage.makeEmpty(
            surrogate(folder, label), byteCount: GuestDisk.size.bytes + 64 << 20)
        }
        try await served.start()
        try await served.attach(monitor: monitor)
      }
      let client =
        number > 0
        ? nil : options.guest.server.map { startClient(options.clients, $0, hosts, home) }
      try await client?.waitUntilConnected(timeoutMs: options.clients.fillsFirst ? 180_000 : 60_000)
      return GuestSession(
        options: options, hosts: hosts, folder: folder, commandLine: commandLine, label: label,
        serial: serial, source: source, client: client, disk: disk, rootDisk: root, server: server,
        number: number, home: home)
    } catch {
      await source.process.terminate()
      await server?.end()
      serial.close()
      serial.write(to: folder.file("\(label)-console.log"))
      let words = source.lastWords
      throw words == "it said nothing" ? error : LabError("\(error); QEMU: \(words)")
    }
  }

  /// Arguments of the destination's QEMU, and where its monitor will be if the lab starts it.
  func destination(_ role: GuestPlacement.Role, monitor: String?) throws -> [String] {
    try commandLine.arguments(
      for: Self.placement(
        role, hosts: hosts, folder: folder, label: label, monitor: monitor,
        disks: (movedDisk ?? disk, movedRoot ?? rootDisk), number: number))
  }

  /// Arguments of a QEMU that an agent starts on `side` for the guest to arrive in.
  func arrival(at side: HostPair.Side) throws -> [String] {
    var placement = Self.placement(
      side == .source ? .source : .destinationOfAgent, hosts: hosts, folder: folder, label: label,
      monitor: nil,
      disks: side == .destination
        ? (movedDisk ?? disk, movedRoot ?? rootDisk) : (disk, rootDisk), number: number)
    placement.role = .destinationOfAgent
    placement.isRootWritable = options.movesRootDisk
    return try commandLine.arguments(for: placement)
  }

  /// Where the guest's disk comes to lie when it moves, too; nil: both hosts share it.
  var movedDisk: String? { options.movesDisk && disk != nil ? file("disk-there.raw") : nil }

  /// The same of its root disk.
  var movedRoot: String? { options.movesRootDisk && rootDisk != nil ? file("root-there.raw") : nil }

  /// What an agent is asked for beside that.
  var diskWishes: DiskWishes? {
    var wishes = DiskWishes()
    wishes.paths[GuestCommandLine.diskNode] = movedDisk
    wishes.paths[GuestCommandLine.rootNode] = movedRoot
    guard !wishes.paths.isEmpty else { return nil }
    wishes.names = wishes.paths.keys.sorted()
    if server != nil, let method = options.tuning.diskMethod {
      wishes.method = method
      if method == .waio { wishes.surrogate = Self.surrogate(folder, label) }
    }
    return wishes
  }

  private static func surrogate(_ folder: RunFolder, _ label: String) -> String {
    folder.file("\(label)-surrogate")
  }

  func file(_ name: String) -> String { folder.file("\(label)-\(name)") }

  /// Stops clients, the source's QEMU, and what it has its disk behind.
  func end() async {
    client?.stop()
    await source.process.terminate()
    await server?.end()
    serial.close()
    serial.write(to: file("console.log"))
    // Many trials' images would fill the disk.
    for image in [movedDisk, movedRoot, movedRoot == nil ? nil : rootDisk] {
      if let image { _ = unsafe unlink(image) }
    }
    if server != nil { _ = unsafe unlink(Self.surrogate(folder, label)) }
  }

  private static func startClient(
    _ clients: StoreClient.Options, _ server: StoreServer, _ hosts: HostPair, _ home: HostPair.Side
  ) -> StoreClient {
    var client = clients
    client.server = server
    if hosts.kind == .namespaces {
      client.address = HostPair.guestAddress
    } else {
      let ports = [userPorts.source, userPorts.destination]
      let own = home == .source ? ports[0] : ports[1]
      client.port = own
      client.otherPorts = ports.filter { $0 != own }
      client.timeoutMs = 2000
    }
    return StoreClient(options: client, namespace: hosts.clientNamespace)
  }

  private static func serialPath(
    _ folder: RunFolder, _ label: String, _ side: HostPair.Side
  ) -> String { folder.file("\(label)-\(side.rawValue).tty") }

  private static func placement(
    _ role: GuestPlacement.Role, hosts: HostPair, folder: RunFolder, label: String,
    monitor: String?, disks: (own: String?, root: String?), number: Int
  ) -> GuestPlacement {
    let side = role == .source ? HostPair.Side.source : .destination
    let network: GuestPlacement.Network =
      switch hosts.kind {
      case _ where number > 0: .user(hostPort: nil)
      case .namespaces:
        .tap(interface: HostPair.tap, guestAddress: "\(HostPair.guestAddress)/24")
      case .loopback:
        .user(hostPort: side == .source ? userPorts.source : userPorts.destination)
      }
    var placement = GuestPlacement(
      network: network, serialSocket: serialPath(folder, label, side), monitorSocket: monitor,
      role: role,
      memoryFile: "\(RunFolder.memoryFolder)/\(folder.prefix)-\(label)-\(side.rawValue)-",
      disk: disks.own)
    placement.rootDisk = disks.root
    return placement
  }
}
