import Agent
import ArgumentParser

/// Which disks move with a guest: the same for `migrate` and for `plan`.
struct DiskOptions: ParsableArguments {
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Disks that move with the guest: all, or device ids, node names or paths. Those that both hosts share are found out and left where they are (default: none move).",
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
      "A disk that both hosts share, even where that cannot be seen: nothing of it is copied.",
      valueName: "name"))
  var sharedDisk: [String] = []
  @Option(
    help: ArgumentHelp(
      "How disks are copied: precopy (what the guest writes is copied again), mirror (its writes go to both sides), or auto (one, then the other).",
      valueName: "method"))
  var diskMethod = DiskWishes.Method.auto

  /// Nil: no disk moves.
  var wishes: DiskWishes? {
    guard !disks.isEmpty else { return nil }
    var wishes = DiskWishes()
    wishes.names = disks == ["all"] ? nil : disks
    wishes.shared = sharedDisk
    wishes.paths = Dictionary(diskMap.map { ($0.name, $0.path) }) { _, last in last }
    wishes.method = diskMethod
    return wishes
  }

  func validate() throws {
    guard disks.isEmpty else { return }
    guard diskMap.isEmpty, sharedDisk.isEmpty, diskMethod == .auto else {
      throw ValidationError("--disk-map, --shared-disk and --disk-method need --disks")
    }
  }
}

/// A value of `--disk-map`.
struct DiskPlace: Sendable {
  let name, path: String
}
