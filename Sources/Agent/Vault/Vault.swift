import Base
import Compaction
import Glibc
import HostIO
import Wire

/// Memory of guests that were here, on this host's disk: one folder that its owner alone may enter, a file a
/// snapshot (`ID.snapshot`), at most one snapshot a guest.
///
/// What is being written is called `ID.partial` and becomes a snapshot by being renamed, once all of it is on
/// the disk. So a crash at any instant leaves the snapshot before it, or none. `ID.uses` has a byte for each
/// migration that took pages of it.
struct Vault: Sendable {
  static let suffix = ".snapshot"
  static let partialSuffix = ".partial"
  static let usesSuffix = ".uses"
  /// Snapshots that are looked at, at most.
  static let snapshotsMax = 10_000
  private static let lockPatienceMs: UInt64 = 10_000

  let directory: String
  /// Bytes of all files; 0: nothing is kept.
  let quotaBytes: UInt64
  /// The host's key, which snapshots are sealed with; nil: they are not.
  let keyFile: String?

  init(_ configuration: AgentConfiguration) {
    self.init(
      directory: configuration.stateDirectory + "/vault", quotaBytes: configuration.vaultQuotaBytes,
      keyFile: configuration.vaultKeyFile)
  }

  init(directory: String, quotaBytes: UInt64, keyFile: String? = nil) {
    (self.directory, self.quotaBytes, self.keyFile) = (directory, quotaBytes, keyFile)
  }

  /// The host's key; nil where it has none.
  func secret() throws(VaultError) -> VaultSecret? {
    guard let keyFile else { return nil }
    return try VaultSecret(path: keyFile)
  }

  /// A file of the vault.
  struct Entry: Sendable {
    let id: VaultID
    let path: String
    let bytes: UInt64
    /// Nil where the file can't be read as a snapshot.
    let head: VaultHead?
    let end: VaultEnd?
    let problem: String?
    let isSealed: Bool
    let uses: UInt64
    /// Seconds since 1970; nil: never.
    let lastUsedAt: Int64?
    /// It is sealed, and this host has no key: that is no damage.
    var isLocked = false

    func value(now: Int64) -> VaultValue {
      // What is damaged is worth nothing: older than anything.
      VaultValue(age: head.map { now - $0.takenAt } ?? .max, uses: uses, bytes: bytes)
    }

    func isOf(guest: String, uuid: String) -> Bool {
      head.map { $0.guest == guest && $0.uuid == uuid } ?? false
    }
  }

  /// Everything that is called a snapshot, newest first, damaged ones last.
  func entries() -> [Entry] {
    // Without the key what is sealed counts as damaged.
    let secret = try? secret()
    return ids(Self.suffix).compactMap { entry($0, secret) }.sorted {
      ($0.head?.takenAt ?? .min, $0.id.description) > ($1.head?.takenAt ?? .min, $1.id.description)
    }
  }

  func ids(_ suffix: String) -> [VaultID] {
    ProcFile.names(in: directory, limit: Self.snapshotsMax).compactMap { name in
      name.hasSuffix(suffix) ? VaultID(String(name.dropLast(suffix.count))) : nil
    }
  }

  func path(_ id: VaultID, _ suffix: String) -> String { "\(directory)/\(id)\(suffix)" }

  /// Nil: it is gone.
  private func entry(_ id: VaultID, _ secret: VaultSecret?) -> Entry? {
    let path = path(id, Self.suffix)
    guard let bytes = Self.status(path)?.bytes else { return nil }
    let uses = Self.status(self.path(id, Self.usesSuffix))
    do {
      let file = try SnapshotFile(path: path, secret: secret)
      return Entry(
        id: id, path: path, bytes: bytes, head: file.head, end: file.end, problem: nil,
        isSealed: file.isSealed, uses: uses?.bytes ?? 0, lastUsedAt: uses?.changedAt)
    } catch {
      var entry = Entry(
        id: id, path: path, bytes: bytes, head: nil, end: nil, problem: "\(error)",
        isSealed: false, uses: uses?.bytes ?? 0, lastUsedAt: uses?.changedAt)
      if case VaultError.locked = error { entry.isLocked = true }
      return entry
    }
  }

  static func status(_ path: String) -> (bytes: UInt64, changedAt: Int64)? {
    var status = stat()
    // SAFETY: the path is a NUL-terminated copy for the call, and `status` lives for it.
    guard unsafe lstat(path, &status) == 0 else { return nil }
    return (UInt64(clamping: status.st_size), Int64(status.st_mtim.tv_sec))
  }

  /// The latest whole snapshot of a guest. Both names must be the same: what `[[allow]]` lets a peer bring is
  /// decided by name.
  func newest(guest: String, uuid: String) -> Entry? {
    entries().first { $0.isOf(guest: guest, uuid: uuid) }
  }

  /// The same, or where there is none the latest of a guest that shares with it.
  func newest(guest: String, uuid: String, sharing rules: [ShareRule]) -> Entry? {
    let all = entries()
    return all.first { $0.isOf(guest: guest, uuid: uuid) }
      ?? all.first { $0.head.map { ShareRule.areTogether(rules, guest, $0.guest) } ?? false }
  }

  /// The latest of guests that share with this one, newest first; not `first`, which pages are held at the same place by.
  func others(
    guest: String, sharing rules: [ShareRule], than first: VaultID, limit: Int
  ) -> [Entry] {
    let all = entries().filter { entry in
      guard let head = entry.head, entry.id != first else { return false }
      return ShareRule.areTogether(rules, guest, head.guest)
    }
    return Array(all.prefix(limit))
  }

  /// A migration takes pages of the snapshot.
  func noteUse(_ id: VaultID) {
    try? locked { noteUseLocked(id) }
  }

  private func noteUseLocked(_ id: VaultID) {
    // One that was removed meanwhile leaves nothing.
    guard Self.status(path(id, Self.suffix)) != nil else { return }
    // SAFETY: the path is a NUL-terminated copy for the call.
    let raw = unsafe open(
      path(id, Self.usesSuffix), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard raw >= 0 else { return }
    let descriptor = Descriptor(owning: raw)
    var byte: UInt8 = 0x2E
    // SAFETY: one byte that lives for the call.
    _ = unsafe write(descriptor.raw, &byte, 1)
  }

  // MARK: Removing

  /// Removes a snapshot. Its blocks are given back to the file system, not overwritten: most write elsewhere.
  func remove(_ id: VaultID) {
    for suffix in [Self.suffix, Self.usesSuffix] {
      // SAFETY: the path is a NUL-terminated copy for the call.
      _ = unsafe unlink(path(id, suffix))
    }
    syncFolder()
  }

  /// Removes what dead agents were writing.
  @discardableResult func removeLeftovers() -> Int {
    var count = 0
    for id in ids(Self.partialSuffix) {
      let path = path(id, Self.partialSuffix)
      // SAFETY: the path is a NUL-terminated copy for the calls.
      let raw = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
      guard raw >= 0 else { continue }
      let descriptor = Descriptor(owning: raw)
      guard flock(descriptor.raw, LOCK_EX | LOCK_NB) == 0 else { continue }
      if unsafe unlink(path) == 0 { count += 1 }
    }
    return count
  }

  func syncFolder() {
    // SAFETY: the path is a NUL-terminated copy for the call.
    let raw = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard raw >= 0 else { return }
    let descriptor = Descriptor(owning: raw)
    _ = fsync(descriptor.raw)
  }

  /// One change of the folder at a time. Blocks: call it off the cooperative pool.
  func locked<T>(_ body: () throws -> T) throws -> T {
    let deadlineMs = MonotonicClock.nowMs + Self.lockPatienceMs
    while true {
      if let lock = try FileLock.attempt(directory + "/lock") {
        defer { lock.release() }
        return try body()
      }
      guard MonotonicClock.nowMs < deadlineMs else {
        throw SystemError("lock the vault \(directory)", code: ETIMEDOUT)
      }
      MonotonicClock.sleep(us: 10_000)
    }
  }
}
