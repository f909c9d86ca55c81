import Base
import HostIO

/// The guest's disk: a raw file with an ext4 file system, on storage that both hosts share.
enum GuestDisk {
  static let size = ByteCount.mebibytes(64)

  /// Makes the file at `path`. `mke2fs` needs no root.
  static func create(_ path: String) async throws {
    try SmallFile.write([], to: path, mode: 0o600)
    do {
      try await Command.run(
        "mke2fs", ["-q", "-F", "-t", "ext4", "-L", "godwit-lab", path, "\(size.bytes >> 10)k"])
    } catch let error as SpawnError where error.detail.hasPrefix("cannot start") {
      throw LabError(
        "missing: mke2fs (Debian package e2fsprogs); run scripts/install-dependencies.sh")
    }
  }
}
