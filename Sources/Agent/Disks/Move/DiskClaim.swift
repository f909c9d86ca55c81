/// A disk of the guest's that the source would move: what a destination has to know to take it.
struct DiskClaim: Codable, Sendable, Equatable {
  /// Where the guest finds it, as in `VMFacts.Disk`.
  var device: String
  /// What people call it.
  var name: String
  /// The image, as the source names it.
  var sourcePath: String
  /// Where the operator wants it at the destination; nil: where its path leads there.
  var wantedPath: String?
  /// Bytes the guest can address.
  var byteCount: UInt64
  /// Bytes that the image takes at the source; nil: not known.
  var takenBytes: UInt64?
  /// Why it cannot be copied; then it has to be shared.
  var obstacle: Refusal?
  /// By which a destination sees that both hosts share it; nil: the source could not leave one.
  var probe: SharedDiskProbe?
  /// An older copy of it is to be there, and is brought up to date; nil: nothing may be there.
  var updatesCopy: Bool?
}

/// What a destination says to a claim that it does not refuse.
struct DiskAnswer: Codable, Sendable, Equatable {
  var device: String
  var path: String
  /// Both hosts have the image already.
  var isShared: Bool
  /// The inode of the older copy that is there; nil: there is none.
  var copyInode: UInt64?
}

/// A disk that the source claims, and what QEMU there calls it: a node, or a device.
struct ClaimedDisk: Sendable, Equatable {
  var target: String
  var claim: DiskClaim
  /// The server that it is behind; nil: QEMU has it.
  var server: AttachedDisk?
  /// Its image alone is the disk, as far as its server says.
  var imageIsDisk = true
}

/// A disk that is to be copied, as the source knows it.
struct MovingDisk: Sendable, Equatable {
  /// Its place among those that are copied, which both sides know it by.
  var number: Int
  /// What QEMU calls it.
  var target: String
  var claim: DiskClaim
  /// Where it comes to lie.
  var destinationPath: String
  /// The inode of an older copy there that is brought up to date; nil: it is made anew.
  var copyInode: UInt64?
  /// Who copies it; nil: QEMU does.
  var server: AttachedDisk?
}

/// Chooses the disks that an operator wants to move, and says by name which cannot be.
enum DiskSelection {
  /// Most disks of one guest.
  static let countMax = 64

  /// What the source claims, without probes; the refusals say what was asked for and makes no sense.
  ///
  /// - Parameter attached: those that are behind servers, by device.
  static func choose(
    _ disks: [VMFacts.Disk], _ wishes: DiskWishes, _ attached: [String: AttachedDisk] = [:]
  ) -> (claims: [ClaimedDisk], refusals: [Refusal]) {
    var refusals: [Refusal] = []
    func find(_ name: String, _ option: String) -> VMFacts.Disk? {
      let found = disks.filter { matches(name, $0, attached[$0.device]) }
      if found.count == 1 { return found[0] }
      let known = disks.map { Self.name(of: $0, attached[$0.device]) }.joined(separator: ", ")
      refusals.append(
        Refusal(
          .disks,
          found.isEmpty
            ? "\(option): the guest has no disk called \"\(name)\""
            : "\(option): \"\(name)\" means more than one disk",
          remedy: "name one of: \(known.isEmpty ? "(it has none)" : known)"))
      return nil
    }
    let wanted = wishes.names.map { names in names.compactMap { find($0, "--disks") } } ?? disks
    let shared = wishes.shared.compactMap { find($0, "--shared-disk")?.device }
    var paths: [String: String] = [:]
    for (name, path) in wishes.paths.sorted(by: { $0.key < $1.key }) {
      guard let disk = find(name, "--disk-map") else { continue }
      if !PathRule.isClean(path) || path.hasSuffix("/") {
        refusals.append(
          Refusal(
            .disks, "--disk-map: \"\(path)\" is no absolute path of a file",
            remedy: "write NAME=/PATH, without \"..\""))
      }
      paths[disk.device] = path
    }
    var seen: Set<String> = []
    let claims = wanted.filter { !shared.contains($0.device) && seen.insert($0.device).inserted }
      .map { disk in
        let server = attached[disk.device]
        return ClaimedDisk(
          target: target(of: disk),
          claim: claim(disk, server, path: paths[disk.device], wishes.method), server: server)
      }
    if claims.count > countMax {
      refusals.append(
        Refusal(
          .disks, "\(claims.count) disks, at most \(countMax) move with a guest",
          remedy: "name fewer with --disks"))
    }
    return (claims, refusals)
  }

  /// Nil: what one disk alone can be given is given to one at most.
  static func refusal(_ method: DiskWishes.Method, movingCount: Int) -> Refusal? {
    guard method.movesOneDisk, movingCount > 1 else { return nil }
    return Refusal(
      .disks,
      "--disk-method \(method.rawValue) moves one disk at a time, and \(movingCount) are to move",
      remedy: "name one with --disks, or use another --disk-method")
  }

  /// What people call a disk.
  static func name(of disk: VMFacts.Disk, _ server: AttachedDisk? = nil) -> String {
    if let server { return server.name }
    return disk.nodeName.isEmpty || disk.nodeName.hasPrefix("#") ? disk.device : disk.nodeName
  }

  private static func target(of disk: VMFacts.Disk) -> String {
    disk.nodeName.isEmpty ? disk.device : disk.nodeName
  }

  static func matches(
    _ name: String, _ disk: VMFacts.Disk, _ server: AttachedDisk? = nil
  ) -> Bool {
    guard !name.isEmpty else { return false }
    return name == disk.device || name == disk.nodeName || name == disk.fileName
      || disk.device.split(separator: "/").contains { $0 == name }
      || name == server?.name || name == server?.image
  }

  private static func claim(
    _ disk: VMFacts.Disk, _ server: AttachedDisk?, path: String?, _ method: DiskWishes.Method
  ) -> DiskClaim {
    DiskClaim(
      device: disk.device, name: name(of: disk, server),
      sourcePath: server?.image ?? disk.fileName, wantedPath: path,
      byteCount: disk.virtualSize, obstacle: obstacle(disk, server, path, method),
      updatesCopy: method == .incremental ? true : nil)
  }

  /// Why the disk's blocks cannot be copied into a raw file at the destination.
  private static func obstacle(
    _ disk: VMFacts.Disk, _ server: AttachedDisk?, _ path: String?, _ method: DiskWishes.Method
  ) -> Refusal? {
    let (name, image) = (Self.name(of: disk, server), server?.image ?? disk.fileName)
    let called = "the disk \(name) (\(image))"
    if disk.isReadOnly {
      return Refusal(
        .disks, "\(called) is read-only, and the hosts do not share it",
        remedy:
          "copy it to the destination yourself, nobody writes to it (a CD may be ejected), and name the "
          + "other disks with --disks")
    }
    if disk.driver != "raw" {
      return Refusal(
        .disks, "\(called) is \(disk.driver): only raw disks can be moved yet",
        remedy:
          "put it behind a server (godwit block attach) or on storage that both hosts share, or convert it to raw"
      )
    }
    if method.needsServer, server == nil {
      return Refusal(
        .disks,
        "\(called) is behind no server of Godwit's, which --disk-method \(method.rawValue) needs",
        remedy:
          "godwit block serve --in-use \(image) --socket PATH, then godwit block attach VM \(name) --socket PATH; "
          + "or use --disk-method auto")
    }
    if path == nil, server?.isQcow2 == true || !PathRule.isClean(image) {
      return Refusal(
        .disks,
        server?.isQcow2 == true
          ? "\(called) is qcow2 here, and would be a raw image at the destination"
          : "\(called) is no file of this host",
        remedy:
          "say --shared-disk \(name) where both hosts reach it, or where it shall lie at the "
          + "destination: --disk-map \(name)=/PATH")
    }
    return nil
  }
}
