import Agent
import FoundationEssentials
import HostIO

/// A disk of a trial with everything around it: what serves it, where it goes, who has copies of it.
///
/// ```
///   clients ── unix socket ── server (godwit block serve | qemu-storage-daemon) ── device ── image
///                                │ source namespace
///                      nbd://destination ══ the lab's link ══ qemu-nbd ── copy
/// ```
/// With `pull` that is so until the disk moves, and then:
/// ```
///   clients ── unix socket ── godwit block serve (destination) ── copy
///                                ║ the lab's link
///                             godwit block serve --read-only (source) ── device ── image
/// ```
/// A device is what stands before the image and is as slow as asked for, as a file (FUSE): QEMU's throttle filter, or a drive
/// with a head, which the lab serves over NBD (`HeadedDevice`). It is the same for every method.
struct DiskStage: Sendable {
  static let exportName = "disk"
  static let copyName = "copy"
  /// Of the first disk's destination; those that move at the same time have the next ones.
  static let firstPort: UInt16 = 10809

  let disk: MatrixDisk
  let method: DiskMethod
  /// Among the disks that move at once, from 0.
  let number: Int
  let label: String
  let hosts: HostPair
  let folder: RunFolder
  let options: LabOptions

  func file(_ name: String) -> String { folder.file("\(label)-\(number)-\(name)") }

  var image: String { file("disk.raw") }
  var copy: String { file("copy.raw") }
  var socket: String { file("nbd") }
  var control: String { file("control") }
  var surrogate: String { file("surrogate") }
  /// Where `waio` finds its surrogate: on a drive of its own where the disk is on one, so it is no faster than the disk.
  var surrogatePlace: String {
    disk.hasHead
      ? "nbd+unix:///\(HeadedDevice.surrogate)?socket=\(drives)" : surrogate
  }
  /// Socket of the drives with a head.
  var drives: String { file("drives") }
  var manifest: String { file("manifest") }
  /// Of the older copy.
  var copyManifest: String { file("copy.manifest") }
  /// Sockets of the server that pulls.
  var arrival: String { file("arrival") }
  var arrivalControl: String { file("arrival.control") }
  /// The image, or what stands before it and is as slow as asked for.
  var device: String { disk.isLimited ? file("slow.raw") : image }
  /// Different disks hold different data.
  var seed: UInt64 { CacheFolder.hash(["\(disk.name) \(number)"]) }

  var host: String { hosts.address(.destination) }
  var port: UInt16 { Self.firstPort + UInt16(number) }
  var source: (hosts: HostPair, side: HostPair.Side) { (hosts, .source) }
  /// What a mover may send, in bytes per second: as it is tuned, and where no link bounds it what a link would; nil: all it can.
  var rate: UInt64? {
    let link = hosts.kind == .loopback ? hosts.linkBytesPerSecond : nil
    return [options.tuning.diskBytesPerSecond, link].compactMap(\.self).min()
  }
  /// The same as options for a mover of Godwit's.
  var bandwidth: [String] { rate.map { ["--bandwidth", "\($0 * 8)bit"] } ?? [] }

  func makeImages() async throws {
    let (disk, seed, image, copy, surrogate) = (disk, seed, image, copy, surrogate)
    let (needsSurrogate, needsOlderCopy) = (method.hasSurrogate, method == .incremental)
    try await WorkerThread.run("disk-images") {
      try DiskImage.make(image, disk, seed: seed)
      if needsOlderCopy {
        try DiskImage.make(copy, disk, seed: seed)
      } else {
        try DiskImage.makeEmpty(copy, byteCount: disk.byteCount)
      }
      if needsSurrogate { try DiskImage.makeEmpty(surrogate, byteCount: disk.byteCount + 64 << 20) }
    }
    guard needsOlderCopy else { return }
    try await Command.run(
      try LabAgent.program(options), ["block", "manifest", copy, "--output", copyManifest],
      timeoutMs: Self.manifestMs)
  }

  /// A disk of 16 GiB is read and hashed.
  private static let manifestMs: UInt64 = 300_000

  /// Drives of the disk and its surrogate; nil: the device has no head.
  func startDrives() throws -> HeadedDevice? {
    guard disk.hasHead else { return nil }
    var images = [(name: HeadedDevice.original, path: image)]
    if method.hasSurrogate { images.append((HeadedDevice.surrogate, surrogate)) }
    return try HeadedDevice(images, socket: drives, seed: seed)
  }

  /// A device that does no more than it is asked to, as a file (FUSE). Its requests are carried out one after the
  /// other, whoever makes them.
  func startDevice() async throws -> DiskProcess? {
    guard disk.isLimited else { return nil }
    guard hosts.kind == .namespaces else {
      throw LabError("a disk with a device of its own needs root: it is a FUSE file")
    }
    try SmallFile.write([], to: device, mode: 0o600)
    let process = try DiskProcess(
      "qemu-storage-daemon",
      nodes + [
        "--export", "type=fuse,id=e0,node-name=n0,mountpoint=\(device),writable=on",
      ], on: nil, log: file("device.log"), folder: folder)
    try await process.wait { DiskImage.byteCount(of: device) == disk.byteCount }
    return process
  }

  /// What the device is, as options of qemu-storage-daemon.
  private var nodes: [String] {
    if disk.hasHead {
      return [
        "--blockdev",
        "driver=nbd,node-name=n0,server.type=unix,server.path=\(drives),export=\(HeadedDevice.original)",
      ]
    }
    var limits = "throttle-group,id=limit"
    if let number = disk.deviceOperationsPerSecond { limits += ",x-iops-total=\(number)" }
    if let rate = disk.deviceBytesPerSecond { limits += ",x-bps-total=\(rate)" }
    return [
      "--object", limits, "--blockdev", "driver=file,node-name=f0,filename=\(image)",
      "--blockdev", "driver=throttle,node-name=n0,throttle-group=limit,file=f0",
    ]
  }

  /// Where the disk goes.
  func startDestination() async throws -> DiskProcess {
    guard method != .pull else {
      return try await startGodwit(
        copy, ["--socket", arrival, "--control", arrivalControl], control: arrivalControl,
        on: (hosts, .destination), log: "destination.log")
    }
    let mark = file("nbd.pid")
    let process = try DiskProcess(
      "qemu-nbd",
      [
        "-f", "raw", "-t", "-e", "16", "-x", Self.copyName, "-b", host, "-p", "\(port)",
        "--pid-file", mark, copy,
      ], on: (hosts, .destination), log: file("destination.log"), folder: folder)
    try await process.wait { SmallFile.exists(mark) }
    return process
  }

  func startServer() async throws -> DiskProcess {
    guard method.isRival else {
      return try await startGodwit(
        device, ["--socket", socket, "--control", control] + direct, control: control, on: source,
        log: "server.log")
    }
    let cache = "cache.direct=\(disk.isLimited ? "on" : "off")"
    let server = try DiskProcess(
      "qemu-storage-daemon",
      [
        "--chardev", "socket,id=q,path=\(control),server=on,wait=off", "--monitor", "chardev=q",
        "--blockdev", "driver=file,node-name=f0,filename=\(device),\(cache)", "--blockdev",
        "driver=raw,node-name=\(RivalDiskMover.node),file=f0", "--nbd-server",
        "addr.type=unix,addr.path=\(socket),max-connections=16", "--export",
        "type=nbd,id=e0,node-name=\(RivalDiskMover.node),name=\(Self.exportName),writable=on",
      ], on: source, log: file("server.log"), folder: folder)
    try await server.wait { SmallFile.exists(socket) && SmallFile.exists(control) }
    return server
  }

  /// Whoever has the disk for a destination that pulls it.
  func startSupplier() async throws -> DiskProcess {
    let control = file("supplier.control")
    return try await startGodwit(
      device,
      ["--read-only", "--listen", "\(hosts.address(.source)):\(port)", "--control", control]
        + ["--insecure", "--insecure-network"] + direct, control: control, on: source,
      log: "supplier.log")
  }

  private var direct: [String] { disk.isLimited ? ["--direct"] : [] }

  /// `godwit block serve`; returns when clients may come.
  ///
  /// - Parameter control: its control socket, which it makes after all others.
  private func startGodwit(
    _ image: String, _ arguments: [String], control: String,
    on place: (hosts: HostPair, side: HostPair.Side), log: String
  ) async throws -> DiskProcess {
    let server = try DiskProcess(
      try LabAgent.program(options),
      ["block", "serve", image, "--export-name", Self.exportName] + arguments, on: place,
      log: file(log), folder: folder)
    try await server.wait { SmallFile.exists(control) }
    return server
  }
}
