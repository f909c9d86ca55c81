import Base
import Compaction
import HostIO
import Logging

// Memory of the guest that was kept when it left this host.
extension DestinationMigration {
  /// The snapshot that pages of this guest may be taken from, its own or, without one, of a guest that shares with it;
  /// nil: there is none, or it takes too much memory.
  func findSnapshot(_ request: PeerMessage.PrepareRequest) async -> Vault.Entry? {
    let vault = Vault(configuration)
    let (guest, uuid) = (request.vm, request.source.uuid)
    let rules = configuration.share
    let found = try? await Blocking.run {
      vault.newest(guest: guest, uuid: uuid, sharing: rules)
    }
    guard let entry = found, let end = entry.end else { return nil }
    let bytes = HeldSnapshot.memoryBytes(storedPages: end.storedPages)
    guard bytes <= configuration.memoryLimitBytes / 4 else {
      logger.notice(
        "the snapshot of the guest is too large for memoryLimit",
        metadata: ["snapshot": "\(entry.id)"])
      return nil
    }
    return entry
  }

  /// Snapshots of guests that share with this one, beside that which is its own or in place of it.
  func findOthers(
    _ request: PeerMessage.PrepareRequest, _ first: Vault.Entry?
  ) async -> [Vault.Entry] {
    guard let first, !configuration.share.isEmpty else { return [] }
    let (vault, guest, rules) = (Vault(configuration), request.vm, configuration.share)
    let found = try? await Blocking.run {
      vault.others(
        guest: guest, sharing: rules, than: first.id,
        limit: PeerMessageLimits.furtherSnapshotsMax)
    }
    return found ?? []
  }

  /// Opens what pages may be the same as, wherever it lay; nil: the source wants none of it.
  func openVault(
    _ order: PeerMessage.BeginOrder, _ undo: DestinationUndo, _ first: HeldSnapshot?
  ) async -> HeldVault? {
    guard let first, let count = order.vault else { return nil }
    let wanted = undo.vault.prefix(count)
    let vault = Vault(configuration)
    let opened = try? await Blocking.run {
      let secret = try vault.secret()
      var others: [SnapshotFile] = []
      // Those behind one that is gone by now are not told of: they are known by their order.
      for entry in wanted {
        guard let file = try? SnapshotFile(path: entry.path, secret: secret) else { break }
        others.append(file)
      }
      return others
    }
    return HeldVault(first, others: opened ?? []) { vault.noteUse($0) }
  }

  /// Opens the snapshot that the source wants; nil: it wants none, or it can't be read any more, which costs
  /// bandwidth alone.
  func openSnapshot(_ order: PeerMessage.BeginOrder, _ undo: DestinationUndo) async -> HeldSnapshot?
  {
    guard let wanted = order.snapshot, let entry = undo.snapshot, "\(entry.id)" == wanted else {
      return nil
    }
    do {
      let vault = Vault(configuration)
      return try await Blocking.run {
        let snapshot = try HeldSnapshot(path: entry.path, secret: try vault.secret())
        vault.noteUse(entry.id)
        return snapshot
      }
    } catch {
      logger.warning("the snapshot of the guest can't be used", metadata: ["error": "\(error)"])
      return nil
    }
  }
}

extension PeerMessage.SnapshotOffer {
  init?(_ entry: Vault.Entry) {
    guard let head = entry.head, let end = entry.end else { return nil }
    (id, takenAt, seed) = ("\(entry.id)", head.takenAt, head.seed)
    blocks = head.blocks.map { .init(name: $0.name, pages: $0.pages) }
    storedPages = end.storedPages
  }
}

extension PeerMessage.FurtherSnapshot {
  init?(_ entry: Vault.Entry) {
    guard let head = entry.head, let end = entry.end else { return nil }
    (seed, storedPages) = (head.seed, end.storedPages)
  }
}
