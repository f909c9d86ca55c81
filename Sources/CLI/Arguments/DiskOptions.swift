import Agent
import ArgumentParser

/// Which disks move with a guest: the same for `migrate` and for `plan`.
struct DiskOptions: ParsableArguments {
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Disks that move with the guest: all, or device ids, node names or paths. Those that both hosts share are found out and left where they are (default: none move, and a file that only the source has is refused).",
      valueName: "name"))
  var disks: [String] = []
  @Option(
    help: ArgumentHelp(
      "Where a disk shall lie at the destination; without, at the same path.",
      valueName: "name=path"),
    transform: { text in
      guard let sign = text.firstIndex(of: "="), sign != text.startIndex else {
        throw ValidationError("--disk-map takes NAME=/PATH")
      }
      return DiskPlace(
        name: String(text[..<sign]), path: String(text[text.index(after: sign)...]))
    })
  var diskMap: [DiskPlace] = []
  @Option(
    help: ArgumentHelp(
      "A disk that both hosts share, even where that cannot be seen: nothing of it is copied, and nobody asks for it.",
      valueName: "name"))
  var sharedDisk: [String] = []
  @Option(
    help: ArgumentHelp(
      "How disks are copied: precopy (what the guest writes is copied again), mirror (its writes go to both sides), or auto (one, then the other); of disks behind a server (godwit block attach) also iofollow, waio, snapmig and incremental, as godwit block move does it.",
      valueName: "method"))
  var diskMethod = DiskWishes.Method.auto
  @Option(
    help: ArgumentHelp(
      "For waio: absolute path of a file or block device on this host, or URI of an export; its first 4 KiB are zeros, and all of it is used.",
      valueName: "place"))
  var surrogate: String?
  @Option(
    help: ArgumentHelp(
      "For snapmig, and for incremental if there is one: absolute path of the manifest of the disk's last snapshot (godwit block snapshot).",
      valueName: "path"))
  var manifest: String?
  @Option(
    help: ArgumentHelp(
      "For snapmig: URI of an export with the disk as the manifest tells it, up to 16 times.",
      valueName: "uri"))
  var backup: [String] = []
  @Option(
    help: ArgumentHelp(
      "For incremental: absolute path of the manifest of the older copy that lies at the destination (godwit block manifest). The copy is written to, whatever becomes of the migration.",
      valueName: "path"))
  var baseManifest: String?
  @Flag(
    help:
      "Send the guest's page cache as it is; without, pages that are the same as a block of a disk that moves go as references to its copy."
  )
  var sendCachedBlocks = false

  /// Nil: no disk moves, and of none is anything said.
  var wishes: DiskWishes? {
    guard !disks.isEmpty || !sharedDisk.isEmpty else { return nil }
    var wishes = DiskWishes()
    wishes.names = disks == ["all"] ? nil : disks
    wishes.shared = sharedDisk
    wishes.paths = Dictionary(diskMap.map { ($0.name, $0.path) }) { _, last in last }
    wishes.method = diskMethod
    (wishes.surrogate, wishes.manifest, wishes.baseManifest) = (surrogate, manifest, baseManifest)
    wishes.backups = backup.isEmpty ? nil : backup
    wishes.sendsCachedBlocks = sendCachedBlocks ? true : nil
    return wishes
  }

  func validate() throws {
    guard disks.isEmpty else { return try validateMethod() }
    guard diskMap.isEmpty, diskMethod == .auto, surrogate == nil, manifest == nil, backup.isEmpty,
      baseManifest == nil, !sendCachedBlocks
    else {
      throw ValidationError(
        "--disk-map, --disk-method, --surrogate, --manifest, --backup, --base-manifest "
          + "and --send-cached-blocks need --disks")
    }
  }

  private func validateMethod() throws {
    if let problem = wishes?.problem { throw ValidationError(problem) }
    // Who uses them is elsewhere.
    guard surrogate.map({ $0.hasPrefix("/") || NBDAddress($0) != nil }) ?? true else {
      throw ValidationError("--surrogate takes an absolute path or the URI of an export")
    }
    guard backup.allSatisfy({ NBDAddress($0) != nil }) else {
      throw ValidationError("--backup takes the URI of an export")
    }
  }
}

/// A value of `--disk-map`.
struct DiskPlace: Sendable {
  let name, path: String
}
