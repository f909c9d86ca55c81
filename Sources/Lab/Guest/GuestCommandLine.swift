import HostIO

/// Where one QEMU of a guest runs: its sockets, its network, the side it is on.
public struct GuestPlacement: Sendable, Equatable {
  /// How the guest's network leads to its clients.
  public enum Network: Sendable, Equatable {
    /// A tap interface that exists already, in the namespace that QEMU is started in.
    case tap(interface: String, guestAddress: String)
    /// QEMU's user-mode network; the port on 127.0.0.1 leads to the guest's server, nil: nothing does.
    case user(hostPort: UInt16?)
  }

  /// Which end of the migration this QEMU is, and who starts it.
  public enum Role: Sendable, Equatable {
    case source
    /// Waits for an incoming migration, and runs the guest by itself once that is complete.
    case destination
    /// An agent adds `-S`, `-incoming` and a monitor.
    case destinationOfAgent
  }

  public var network: Network
  /// QEMU connects here with its serial port: the lab listens.
  public var serialSocket: String
  /// QEMU listens here; nil where an agent adds its own monitor.
  public var monitorSocket: String?
  public var role: Role
  /// Path of the shared file that is guest RAM, for the backend `file`; one per NUMA node, with
  /// the node's number appended. Source and destination need different ones.
  public var memoryFile: String
  public var disk: String?
  /// An image that the guest only reads.
  public var rootDisk: String?
  /// Its device says that it could be written to, as only such a disk can move.
  public var isRootWritable = false

  public init(
    network: Network, serialSocket: String, monitorSocket: String?, role: Role,
    memoryFile: String, disk: String?
  ) {
    (self.network, self.serialSocket, self.monitorSocket) = (network, serialSocket, monitorSocket)
    (self.role, self.memoryFile, self.disk) = (role, memoryFile, disk)
  }
}

/// QEMU's arguments for a guest. Source and destination get the same machine, device for device.
public struct GuestCommandLine: Sendable {
  public var specification: GuestSpecification
  public let image: GuestImage
  /// Both ends: the older one decides the machine type.
  public let source, destination: QEMUProgram

  public init(
    specification: GuestSpecification, image: GuestImage, source: QEMUProgram,
    destination: QEMUProgram
  ) {
    (self.specification, self.image) = (specification, image)
    (self.source, self.destination) = (source, destination)
  }

  /// Without the program itself. Throws where the specification can't be met.
  public func arguments(for placement: GuestPlacement) throws -> [String] {
    try specification.validate()
    let program = placement.role == .source ? source : destination
    var arguments = ["-name", "guest=\(specification.name),debug-threads=on"]
    for folder in program.firmwareFolders { arguments += ["-L", folder] }
    arguments += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    arguments += [
      "-machine", machine, "-cpu", specification.accelerator == .kvm ? "host" : "qemu64",
    ]
    arguments += try memory(placement)
    arguments += ["-kernel", image.kernel, "-initrd", image.initramfs]
    arguments += ["-append", kernelArguments(placement)]
    arguments += ["-chardev", "socket,id=serial0,path=\(placement.serialSocket)"]
    arguments += ["-serial", "chardev:serial0"]
    arguments += devices(placement)
    if let socket = placement.monitorSocket {
      arguments += ["-qmp", "unix:\(socket),server=on,wait=off"]
    }
    if placement.role == .destination { arguments += ["-incoming", "defer"] }
    return arguments
  }

  private var machine: String {
    let older = source.isOlder(than: destination) ? source : destination
    let type =
      switch specification.machine {
      case .pc: "pc-i440fx-\(older.machineVersion)"
      case .q35: "pc-q35-\(older.machineVersion)"
      // Not versioned: both ends must agree by themselves. Under TCG the kernel finds no clock to
      // calibrate against without the old timer, and stops there.
      case .microvm: "microvm,rtc=on,pit=on,pic=on"
      }
    return "\(type),accel=\(specification.accelerator.rawValue)"
  }

  private func memory(_ placement: GuestPlacement) throws -> [String] {
    let affected = source.majorVersion < 9 || destination.majorVersion < 9
    let blocks = try specification.blockSizesKiB(avoidingDirtyLogDefect: affected)
    var arguments = ["-m", "\(blocks.reduce(0, +))K", "-smp", "\(specification.cpus)"]
    guard specification.backend != .none || blocks.count > 1 else { return arguments }
    for (node, size) in blocks.enumerated() {
      let id = "id=mem\(node),size=\(size)K"
      let backend =
        switch specification.backend {
        case .none: "memory-backend-ram,\(id)"
        case .memfd: "memory-backend-memfd,\(id),share=on"
        case .file: "memory-backend-file,\(id),share=on,mem-path=\(placement.memoryFile)\(node)"
        case .hugepages: "memory-backend-memfd,\(id),share=on,hugetlb=on,hugetlbsize=2M"
        }
      arguments += ["-object", backend]
      if blocks.count > 1 { arguments += ["-numa", "node,nodeid=\(node),memdev=mem\(node)"] }
    }
    if blocks.count == 1 { arguments += ["-machine", "memory-backend=mem0"] }
    return arguments
  }

  private func kernelArguments(_ placement: GuestPlacement) -> String {
    var words = [
      "console=ttyS0", "quiet", "loglevel=3", "panic=-1", "tsc=reliable", "no_timer_check",
    ]
    if specification.machine == .microvm, let khz = Self.hostTimestampKHz() {
      // TCG's time-stamp counter is the host's. microvm has nothing but the old timer to measure it
      // against, which fails on a busy host, and without it the kernel stops.
      words.append("tsc_early_khz=\(khz)")
    }
    switch placement.network {
    case .tap(_, let address): words.append("gw.ip=\(address)")
    case .user: words.append("gw.ip=dhcp")
    }
    if let size = specification.memcachedMiB { words.append("gw.memcached=\(size)") }
    if let size = specification.redisMiB { words.append("gw.redis=\(size)") }
    if placement.disk != nil { words.append("gw.disk") }
    if placement.rootDisk != nil {
      words.append("gw.root=\(placement.disk == nil ? "vda" : "vdb")")
    }
    let work = specification.workload.arguments(memoryMiB: specification.workloadRoomMiB)
    return (words + work.map { "gw.work.\($0)" }).joined(separator: " ")
  }

  /// Frequency of the host's first processor; nil where the kernel does not tell.
  private static func hostTimestampKHz() -> UInt64? {
    guard let text = try? SmallFile.read("/proc/cpuinfo", bytesMax: 4 << 20),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("cpu MHz") }),
      let value = line.split(separator: ":").last
    else { return nil }
    guard let megahertz = Double(value.filter { !$0.isWhitespace }),
      (1...100_000).contains(megahertz)
    else { return nil }
    return UInt64(megahertz * 1000)
  }

  private func devices(_ placement: GuestPlacement) -> [String] {
    let suffix = specification.machine == .microvm ? "device" : "pci"
    var arguments: [String] = []
    switch placement.network {
    case .tap(let interface, _):
      arguments += ["-netdev", "tap,id=net0,ifname=\(interface),script=no,downscript=no"]
    case .user(let port):
      let server = specification.server ?? .memcached
      let forward = port.map { ",hostfwd=tcp:127.0.0.1:\($0)-:\(server.port)" } ?? ""
      arguments += ["-netdev", "user,id=net0\(forward)"]
    }
    // No option ROM: the guest never boots from the network.
    let rom = suffix == "pci" ? ",romfile=" : ""
    arguments += ["-device", "virtio-net-\(suffix),netdev=net0,mac=52:54:00:67:77:01\(rom)"]
    if let disk = placement.disk {
      arguments += Self.disk(Self.diskNode, disk, "virtio-blk-\(suffix)")
    }
    if let root = placement.rootDisk {
      arguments += Self.disk(
        Self.rootNode, root, "virtio-blk-\(suffix)", isReadOnly: !placement.isRootWritable)
    }
    if specification.hasRandomDevice {
      arguments += ["-object", "rng-random,id=rng0,filename=/dev/urandom"]
      arguments += ["-device", "virtio-rng-\(suffix),rng=rng0"]
    }
    return arguments
  }

  /// The node of the guest's own disk, and the name of that disk for an agent.
  static let diskNode = "disk0"
  /// The same of its root disk.
  static let rootNode = "root0"

  /// A raw image behind a device, past the page cache. Nodes with names, as libvirt makes them: only such a disk can be
  /// put behind a server.
  private static func disk(
    _ node: String, _ path: String, _ device: String, isReadOnly: Bool = false
  ) -> [String] {
    let both = "read-only=\(isReadOnly ? "on" : "off"),cache.direct=on"
    return [
      "-blockdev", "driver=file,node-name=\(node)-file,filename=\(path),\(both)",
      "-blockdev", "driver=raw,node-name=\(node),file=\(node)-file,\(both)",
      "-device", "\(device),drive=\(node),id=\(node)-device",
    ]
  }
}
