import HostIO

/// A small file system of its own under an agent's state, which can be full. Needs root.
struct SmallDisk: Sendable {
  let path: String
  private var filler: String { path + "/filler" }

  func mount() async throws {
    try await Command.run("mount", ["-t", "tmpfs", "-o", "size=4m,mode=0700", "godwit-lab", path])
  }

  /// Writes until there is no space left.
  func fill() async throws {
    // dd fails at the end of the disk: that is what is wanted.
    _ = try await Command.execute("dd", ["if=/dev/zero", "of=\(filler)", "bs=4096"])
  }

  func free() async throws { try await Command.run("rm", ["-f", filler]) }

  func unmount() async { _ = try? await Command.execute("umount", ["-l", path]) }

  /// Unmounts what a run that died left mounted below `folder`.
  static func unmountAll(below folder: String) async {
    guard let mounts = try? SmallFile.read("/proc/self/mounts", bytesMax: 4 << 20) else { return }
    for line in mounts.split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count > 1, fields[1].hasPrefix(folder + "/") else { continue }
      await SmallDisk(path: String(fields[1])).unmount()
    }
  }
}
