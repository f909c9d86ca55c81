import Glibc

/// A control group of Godwit's below the one that a thread lives in, to limit that thread's time.
///
/// Version 2 takes single threads only in *threaded* groups: the group above becomes a threaded domain,
/// which it can as long as it hands on no controllers but threaded ones. Where the rules or the owner
/// of the tree forbid it, a call throws and nothing but an empty group may be left, for `remove`.
public struct QuotaGroup: Sendable, Hashable, Codable {
  /// All of Godwit's groups begin so; `remove` removes no others.
  public static let prefix = "godwit-"
  /// Shortest and usual length of a period, in microseconds: short ones let the guest's other
  /// threads wait less.
  static let quotaMinUs: UInt64 = 1000
  static let periodUs: UInt64 = 10_000
  /// How long a group whose last thread has just left may still be busy.
  static let removeTimeoutMs: UInt64 = 500

  /// Where the thread was before.
  public let home: CPUGroupPlace
  /// One component of a path.
  public let name: String
  /// Version 2: the group above hands on `cpu` without our doing.
  public let isDelegated: Bool

  /// Makes nothing yet, but looks at what the group above hands on.
  public init(in home: CPUGroupPlace, name: String) {
    (self.home, self.name) = (home, name)
    isDelegated = home.version == .v1 || Self.handsOnCPU(home.directory)
  }

  /// The group's own folder.
  public var directory: String { home.directory + "/" + name }

  /// Whether it is a group that Godwit may have made: a journal could say anything.
  public var isOurs: Bool { name.hasPrefix(Self.prefix) && !name.contains("/") }

  public var exists: Bool { unsafe access(directory, F_OK) == 0 }

  /// Makes the group, without a limit. An existing one is taken as it is.
  public func create() throws(SystemError) {
    if unsafe mkdir(directory, 0o755) != 0, errno != EEXIST {
      throw SystemError("make the control group \(directory)")
    }
    guard home.version == .v2 else { return }
    try Self.write("threaded", directory + "/cgroup.type")
    // Looked at anew: what it handed on may have been another migration's doing, which has ended.
    guard !Self.handsOnCPU(home.directory) else { return }
    try Self.write("+cpu", home.directory + "/cgroup.subtree_control")
  }

  /// Lets the group's threads together have so many thousandths of a processor, `1...1000`; nil:
  /// as much as they like.
  public func limit(permille: UInt64?) throws(SystemError) {
    let limit = permille.map { min(max($0, 1), 1000) }
    // The kernel takes no quota below 1 ms, so small shares need longer periods.
    let quotaUs = limit.map { max(Self.quotaMinUs, Self.periodUs * $0 / 1000) }
    let periodUs =
      if let limit, let quotaUs { quotaUs * 1000 / limit } else { Self.periodUs }
    switch home.version {
    case .v2:
      try Self.write(
        "\(quotaUs.map { "\($0)" } ?? "max") \(periodUs)", directory + "/cpu.max")
    case .v1:
      let quotaPath = directory + "/cpu.cfs_quota_us"
      // Without a quota first: a new period with the old quota may be more than the group above has.
      try Self.write("-1", quotaPath)
      guard let quotaUs else { return }
      try Self.write("\(periodUs)", directory + "/cpu.cfs_period_us")
      do { try Self.write("\(quotaUs)", quotaPath) } catch {
        // EINVAL: more than a group above allows, which limits the thread more than was asked.
        guard error.code == EINVAL else { throw error }
      }
    }
  }

  /// Moves the thread in. False when it is gone.
  @discardableResult
  public func take(_ thread: ThreadIdentity) throws(SystemError) -> Bool {
    try Self.move(thread, to: CPUGroupPlace(version: home.version, directory: directory))
  }

  /// Moves the thread home. False when it is gone or somebody else has moved it meanwhile.
  @discardableResult
  public func giveBack(_ thread: ThreadIdentity) throws(SystemError) -> Bool {
    guard CPUGroupPlace.of(thread)?.directory == directory else { return false }
    return try Self.move(thread, to: home)
  }

  /// Removes the empty groups, and takes `cpu` back from the groups above where Godwit handed it
  /// on. Groups that are gone already are no error.
  public static func remove(_ groups: [QuotaGroup]) throws(SystemError) {
    var failure: SystemError?
    for group in groups where group.isOurs {
      do { try group.removeFolder() } catch { failure = error }
    }
    if let failure { throw failure }
    for home in Set(groups.filter { $0.isOurs && !$0.isDelegated }.map(\.home.directory)) {
      // Others may count on it by now; and where nothing was ever handed on, nobody may be allowed to write.
      guard handsOnCPU(home), !hasGroups(home) else { continue }
      do { try write("-cpu", home + "/cgroup.subtree_control") } catch {
        guard error.code == ENOENT else { throw error }
      }
    }
  }

  private func removeFolder() throws(SystemError) {
    // A tree that can't be written says so before it says that there is no such group.
    guard exists || errno != ENOENT else { return }
    let deadlineMs = MonotonicClock.nowMs + Self.removeTimeoutMs
    while unsafe rmdir(directory) != 0, errno != ENOENT {
      guard errno == EBUSY, MonotonicClock.nowMs < deadlineMs else {
        throw SystemError("remove the control group \(directory)")
      }
      MonotonicClock.sleep(us: 2000)
    }
  }

  private static func hasGroups(_ directory: String) -> Bool {
    ProcFile.names(in: directory, limit: 65_536).contains { name in
      // Only groups have this file.
      unsafe access("\(directory)/\(name)/cgroup.procs", F_OK) == 0
    }
  }

  private static func move(
    _ thread: ThreadIdentity, to place: CPUGroupPlace
  ) throws(SystemError) -> Bool {
    guard thread.isAlive else { return false }
    let file = place.version == .v1 ? "tasks" : "cgroup.threads"
    do { try write("\(thread.tid)", "\(place.directory)/\(file)") } catch {
      if error.code == ESRCH { return false }
      throw error
    }
    return true
  }

  /// Version 2: whether groups below this one have `cpu` by now.
  private static func handsOnCPU(_ directory: String) -> Bool {
    let handedOn = ProcFile.text(directory + "/cgroup.subtree_control", limit: 4096) ?? ""
    return handedOn.split(whereSeparator: \.isWhitespace).contains("cpu")
  }

  /// One write, as control files want it.
  private static func write(_ text: String, _ path: String) throws(SystemError) {
    let raw = unsafe open(path, O_WRONLY | O_CLOEXEC)
    guard raw >= 0 else { throw SystemError("write \(path)") }
    let descriptor = Descriptor(owning: raw)
    let bytes = Array(text.utf8)
    // SAFETY: the count is the buffer's own; the pointer does not leave the closure.
    let count = unsafe bytes.withUnsafeBytes { buffer in
      unsafe Glibc.write(descriptor.raw, buffer.baseAddress, buffer.count)
    }
    guard count == bytes.count else { throw SystemError("write \"\(text)\" to \(path)") }
  }
}
