import Base
import Compaction
import HostIO

extension MigrationAgent {
  /// Lists, verifies or removes what this host's vault has.
  public func vault(_ request: VaultRequest) async throws -> [VaultItem] {
    let vault = Vault(configuration)
    // A client that has left must not keep a disk busy.
    let isCalledOff = Guarded(false)
    return try await withTaskCancellationHandler {
      try await Blocking.run {
        try vault.answer(request) { isCalledOff.read { $0 } }
      }
    } onCancel: {
      isCalledOff.update { $0 = true }
    }
  }
}

extension Vault {
  /// Blocks.
  func answer(
    _ request: VaultRequest, isCalledOff: () -> Bool = { false }
  ) throws -> [VaultItem] {
    let entries = try entries().filter(chosen(by: request.targets))
    switch request.action {
    case .list: return entries.map { VaultItem($0) }
    case .verify:
      return try entries.map { entry in
        var item = VaultItem(entry)
        guard item.state == .whole else { return item }
        do {
          try SnapshotFile(path: entry.path, secret: try secret()).verify(isCalledOff: isCalledOff)
        } catch {
          if case VaultError.calledOff = error { throw error }
          (item.state, item.problem) = (.damaged, "\(error)")
        }
        return item
      }
    case .prune:
      guard SmallFile.exists(directory) else { return [] }
      let isBlunt = request.all || !request.targets.isEmpty
      return try locked {
        // A snapshot that can't be read only for want of the key is not damaged.
        if !isBlunt { _ = try secret() }
        removeLeftovers()
        let removed = isBlunt ? entries : spare()
        for entry in removed { remove(entry.id) }
        return removed.map { entry in
          var item = VaultItem(entry)
          item.state = .removed
          return item
        }
      }
    }
  }

  private func chosen(by targets: [String]) throws -> (Entry) -> Bool {
    guard !targets.isEmpty else { return { _ in true } }
    func isNamed(_ entry: Entry, _ target: String) -> Bool {
      entry.head?.guest == target || entry.head?.uuid == target
        || (target.utf8.count >= 8 && "\(entry.id)".hasPrefix(target))
    }
    let all = entries()
    for target in targets where !all.contains(where: { isNamed($0, target) }) {
      throw ControlError(
        .refused, "the vault has nothing of \"\(target)\"; see `godwit vault list`")
    }
    return { entry in targets.contains { isNamed(entry, $0) } }
  }

  /// What is damaged, and what is over the quota, the least value first.
  private func spare() -> [Entry] {
    let now = MonotonicClock.wallSeconds
    let entries = entries()
    var spare = entries.filter { $0.head == nil && !$0.isLocked }
    var rest = entries.filter { $0.head != nil || $0.isLocked }
      .sorted { $0.value(now: now) < $1.value(now: now) }
    var used = rest.reduce(0) { $0 + $1.bytes }
    while used > quotaBytes, !rest.isEmpty {
      let entry = rest.removeFirst()
      used -= entry.bytes
      spare.append(entry)
    }
    return spare
  }
}

extension VaultItem {
  init(_ entry: Vault.Entry) {
    self.init(
      id: "\(entry.id)", state: entry.problem == nil ? .whole : .damaged, bytes: entry.bytes)
    (vm, uuid, takenAt) = (entry.head?.guest, entry.head?.uuid, entry.head?.takenAt)
    ramBytes = entry.head.map { $0.pageCount << UInt64(Page.shift) }
    (pages, zeroPages) = (entry.end?.storedPages, entry.end?.zeroPages)
    (uses, lastUsedAt, problem) = (entry.uses, entry.lastUsedAt, entry.problem)
    isSealed = entry.isSealed
  }
}
