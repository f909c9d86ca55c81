import QMP

/// A guest's raw disk as QEMU has it: the node that the guest's device uses, and the node below it.
public struct GuestDisk: Sendable, Hashable {
  /// Who reads and writes the disk's file.
  public enum Place: Sendable, Hashable {
    /// QEMU reads and writes the file itself.
    case file
    /// An NBD server does; the node of the file is still there for the way back.
    case server
  }

  /// What may be put below: begins the name of the node that leads to the server, and the name of
  /// the file's node follows it.
  static let prefix = "gw-"
  /// Longest name of a node, in bytes.
  static let nodeNameMax = 31
  private static let fileDrivers: Set<String> = ["file", "host_device"]

  let format: BlockNode
  /// The node of the file or block device.
  let file: BlockNode
  public let place: Place
  /// The server's socket and the export's name there, as far as QEMU tells them.
  public var serverSocket, serverExport: String?

  /// The name of the raw node.
  public var name: String { format.nodeName }
  /// Bytes the guest can address.
  public var byteCount: UInt64 { format.virtualSize }
  /// The file or block device.
  public var path: String { file.fileName }
  var serverNodeName: String { Self.prefix + file.nodeName }

  /// Finds a disk by device id, node name or path, among what QEMU says.
  ///
  /// Refuses by name what can't be pivoted without copying.
  static func find(
    _ name: String, devices: [BlockDevice], nodes: [BlockNode]
  ) throws(GuestDiskError) -> GuestDisk {
    let found = devices.filter { $0.isCalled(name) }
    guard let device = found.first, let format = device.node else {
      throw .notFound(name, known: devices.compactMap { $0.node?.nodeName })
    }
    guard found.count == 1 else { throw .ambiguous(name) }
    guard format.driver == "raw" else { throw .notRaw(name, driver: format.driver) }
    // QEMU reopens only nodes that whoever started it has named.
    guard !format.nodeName.hasPrefix("#"), !format.nodeName.isEmpty else { throw .unnamed(name) }
    let below = nodes.filter {
      $0.nodeName != format.nodeName && $0.fileName == format.fileName
        && (fileDrivers.contains($0.driver) || $0.driver == "nbd")
    }
    guard let child = below.first, below.count == 1 else { throw .ambiguous(name) }
    guard child.driver == "nbd" else {
      // With an offset or a size of its own a raw node is not its file.
      guard child.virtualSize == format.virtualSize else { throw .partOfFile(name) }
      guard prefix.utf8.count + child.nodeName.utf8.count <= nodeNameMax,
        !child.nodeName.hasPrefix("#"), !child.nodeName.isEmpty
      else { throw .unnamed(name) }
      return GuestDisk(format: format, file: child, place: .file)
    }
    guard child.nodeName.hasPrefix(prefix),
      let file = nodes.first(where: { $0.nodeName == child.nodeName.dropFirst(prefix.count) }),
      fileDrivers.contains(file.driver)
    else { throw .foreignServer(name) }
    let server = child.nbdServer
    return GuestDisk(
      format: format, file: file, place: .server, serverSocket: server.socket,
      serverExport: server.export)
  }
}

/// Why a disk can't be put behind a server or taken back. Each text names the remedy, where there is one.
public enum GuestDiskError: Error, Sendable, Hashable, CustomStringConvertible {
  case notFound(String, known: [String])
  case ambiguous(String)
  case notRaw(String, driver: String)
  case unnamed(String)
  case partOfFile(String)
  case foreignServer(String)
  case alreadyAttached(String)
  case notAttached(String)
  case serverGone(String, detail: String)
  case moving(String, detail: String)
  case otherDisk(String, detail: String)
  /// The server notes what is written since a snapshot, and can't be told that it won't hear of all.
  case keepsNotes(String, detail: String)
  /// Of qcow2 disks.
  case notInAFile(String, driver: String)
  case readOnly(String)
  case otherBacking(String, image: String)
  case overlayIsThere(String, image: String, overlay: String)
  case copyEnded(String, detail: String)
  /// The node of its file is defined within the format's.
  case fileWithin(String, node: String)
  /// Dirty bitmaps that QEMU would forget, and such as somebody uses.
  case losesBitmaps(String, [String])
  case busyBitmaps(String, [String])
  /// Neither where it was nor where it should be.
  case onTheWay(String, image: String, overlay: String, detail: String)

  /// Whether nothing was begun.
  public var isRefusal: Bool {
    switch self {
    case .copyEnded, .onTheWay: false
    default: true
    }
  }

  var isOnTheWay: Bool {
    if case .onTheWay = self { return true }
    return false
  }

  public var description: String {
    switch self {
    case .notFound(let name, let known):
      "no disk is called \"\(name)\"; this guest has: \(known.joined(separator: ", "))"
    case .ambiguous(let name): "\"\(name)\" can't be told from another disk; use its node name"
    case .notRaw(let name, let driver):
      "the disk \"\(name)\" is \(driver); only raw and qcow2 disks can be moved behind a server"
    case .unnamed(let name):
      "the disk \"\(name)\" has nodes without short names of their own; start QEMU with "
        + "-blockdev and node-name (28 characters at most) for file and raw node, as libvirt does"
    case .partOfFile(let name):
      "the disk \"\(name)\" is a part of its file (offset or size), or its data are in another one"
    case .foreignServer(let name):
      "the disk \"\(name)\" is on an NBD server that was not attached by godwit block attach"
    case .alreadyAttached(let name): "the disk \"\(name)\" is on a server already"
    case .notAttached(let name): "the disk \"\(name)\" is on no server"
    case .serverGone(let name, let detail):
      "the server of the disk \"\(name)\" is gone (\(detail)); start it again first: QEMU flushes through it"
    case .moving(let name, let detail):
      "the server has the disk \"\(name)\" as \(detail), not as the file that QEMU would go back to; "
        + "end its move first (godwit block cancel), or go on with it"
    case .otherDisk(let name, let detail):
      "the server doesn't serve the disk \"\(name)\": \(detail)"
    case .keepsNotes(let name, let detail):
      "the server has a snapshot of the disk \"\(name)\" and can't be told that it counts no more (\(detail)): name its control "
        + "socket with --control"
    case .notInAFile(let name, let driver):
      "the image of the disk \"\(name)\" is a \(driver); qcow2 images have to be in files with absolute paths"
    case .readOnly(let name): "the disk \"\(name)\" is read-only, and qcow2"
    case .otherBacking(let name, let image):
      "behind the disk \"\(name)\" QEMU has other images than the header of \(image) names, by which the server goes "
        + "(qemu-img info --backing-chain)"
    case .overlayIsThere(let name, let image, let overlay):
      "\(overlay) is there: the disk \"\(name)\" was on its way when its QEMU died, and that file may have what "
        + "\(image) hasn't. If the guest has been used from \(image) since, remove it"
    case .copyEnded(let name, let detail):
      "QEMU doesn't copy what was written to the disk \"\(name)\" meanwhile: \(detail)"
    case .fileWithin(let name, let node):
      "the node \(node) of the disk \"\(name)\" is defined within the format's node and would go with it: start QEMU with "
        + "a -blockdev for each of the two"
    case .losesBitmaps(let name, let bitmaps):
      "QEMU has dirty bitmaps of the disk \"\(name)\" in memory alone and would forget them: \(bitmaps.joined(separator: ", ")). "
        + "Who made them (a backup program?) may merge them into persistent ones; --drop-bitmaps goes on without them"
    case .busyBitmaps(let name, let bitmaps):
      "a job or an export uses dirty bitmaps of the disk \"\(name)\": \(bitmaps.joined(separator: ", ")); let it end first"
    case .onTheWay(let name, let image, let overlay, let detail):
      "the disk \"\(name)\" is on the way (\(detail)). As long as its QEMU runs, the same command, or the opposite one, goes "
        + "on from here. If QEMU has ended and \(overlay) is there, the disk is that on top of \(image): end the server, put it in "
        + "with \"qemu-img commit \(overlay)\", and remove it before the guest is started; otherwise the disk is \(image)"
    }
  }
}
