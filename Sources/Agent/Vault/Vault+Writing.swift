import Compaction
import Glibc
import HostIO

/// How snapshots come into the vault, and what makes way for them.
extension Vault {
  /// Of guests with one name, however many UUIDs they have.
  private static let snapshotsPerName = 4
  /// Bytes of its file system that it never fills.
  private static let reserveBytes: UInt64 = 256 << 20

  /// Begins a snapshot.
  func begin(_ head: VaultHead) throws -> SnapshotWriter {
    try PrivateDirectory.make(directory.parentFolder)
    try PrivateDirectory.make(directory)
    let secret = try secret()
    return try locked {
      removeLeftovers()
      return try SnapshotWriter(
        path: path(head.id, Self.partialSuffix), head: head, secret: secret)
    }
  }

  /// Makes a snapshot of what was written, in place of the guest's earlier ones.
  func finish(_ writer: SnapshotWriter) throws {
    try writer.finish()
    try locked {
      let target = path(writer.head.id, Self.suffix)
      // SAFETY: the paths are NUL-terminated copies for the call.
      guard unsafe rename(writer.path, target) == 0 else {
        throw SystemError("rename to \(target)")
      }
      syncFolder()
      let head = writer.head
      // Newest first. A peer that may bring one guest may call it by ever new UUIDs.
      var sameName = 0
      for entry in entries() where entry.head?.guest == head.guest {
        sameName += 1
        guard entry.id != head.id else { continue }
        if entry.head?.uuid == head.uuid || sameName > Self.snapshotsPerName { remove(entry.id) }
      }
    }
  }

  /// What was written is of no use.
  func abandon(_ writer: SnapshotWriter) {
    // SAFETY: the path is a NUL-terminated copy for the call.
    _ = unsafe unlink(writer.path)
  }

  /// Removes snapshots until `bytes` more fit into the quota: the ones that what is being written replaces, then
  /// those of the least value.
  ///
  /// The room is the writer's from then on, as far as its file system can hold it for somebody: others who write at
  /// the same time find less.
  ///
  /// - Parameter mayRemove: false: only what is free may be taken.
  func makeRoom(
    for bytes: UInt64, of writer: SnapshotWriter, mayRemove: Bool = true
  ) throws {
    let head = writer.head
    try locked {
      let now = MonotonicClock.wallSeconds
      var rest = entries().sorted { a, b in
        let (first, second) = (
          a.isOf(guest: head.guest, uuid: head.uuid), b.isOf(guest: head.guest, uuid: head.uuid)
        )
        return first == second ? a.value(now: now) < b.value(now: now) : first
      }
      let partial = ids(Self.partialSuffix).reduce(0) {
        $0 + ($1 == head.id ? writer.byteCount : Self.taken(path($1, Self.partialSuffix)))
      }
      // Nothing makes way in vain.
      guard partial <= quotaBytes, bytes <= quotaBytes - partial else {
        throw VaultError.full(quotaBytes: quotaBytes)
      }
      var used = rest.reduce(partial) { $0 + $1.bytes }
      while used > quotaBytes || bytes > quotaBytes - used {
        guard mayRemove else { throw VaultError.full(quotaBytes: quotaBytes) }
        guard !rest.isEmpty else { break }
        let entry = rest.removeFirst()
        remove(entry.id)
        used -= entry.bytes
      }
      // Journals are on the same file system, and a commit needs them.
      var disk = statvfs()
      // SAFETY: the path is a NUL-terminated copy for the call, which fills the structure in.
      guard unsafe statvfs(directory, &disk) == 0 else { return }
      let free = UInt64(disk.f_bavail).multipliedReportingOverflow(by: UInt64(disk.f_frsize))
      guard free.overflow || free.partialValue >= bytes + Self.reserveBytes else {
        throw SystemError("keep memory in \(directory)", code: ENOSPC)
      }
      try writer.reserve(bytes)
    }
  }

  /// Bytes of a file that is being written, with what was reserved for it.
  private static func taken(_ path: String) -> UInt64 {
    max(status(path)?.bytes ?? 0, FileSpace.taken(by: path) ?? 0)
  }
}

extension String {
  /// What stands before the last slash.
  fileprivate var parentFolder: String { lastIndex(of: "/").map { String(self[..<$0]) } ?? "." }
}
