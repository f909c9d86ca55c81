import Base
import Compaction
import HostIO
import Wire

/// What the vault of this host has of a guest that may come: nothing of it is opened for long, and no page of it is read.
struct VaultSurvey {
  /// How long looking through what is kept may take, in milliseconds; what was seen by then counts.
  private static let lookMsMax: UInt64 = 5000

  let vault: Vault
  let configuration: AgentConfiguration

  init(_ configuration: AgentConfiguration) {
    (vault, self.configuration) = (Vault(configuration), configuration)
  }

  /// The snapshots that a migration of the guest would be offered, the one first that counts at the same place; none
  /// where that takes too much memory. Blocks.
  func snapshots(guest: String, uuid: String) -> [Vault.Entry] {
    let rules = configuration.share
    guard let first = vault.newest(guest: guest, uuid: uuid, sharing: rules),
      let end = first.end, end.storedPages > 0,
      HeldSnapshot.memoryBytes(storedPages: end.storedPages) <= configuration.memoryLimitBytes / 4
    else { return [] }
    guard !rules.isEmpty else { return [first] }
    return [first]
      + vault.others(
        guest: guest, sharing: rules, than: first.id, limit: PeerMessageLimits.furtherSnapshotsMax)
  }

  /// Where the pages that are asked about are kept. Blocks.
  ///
  /// - Parameter question: validated.
  func places(
    of question: PeerMessage.StoredQuestion, guest: String, uuid: String
  ) -> [StoredPlace] {
    var places = [StoredPlace](repeating: .nowhere, count: question.pages.count)
    let secret = try? vault.secret()
    let deadlineMs = MonotonicClock.nowMs + Self.lookMsMax
    for (number, entry) in snapshots(guest: guest, uuid: uuid).enumerated() {
      // One that was kept since is not the one that is asked about.
      guard let seed = entry.head?.seed, let column = question.seeds.firstIndex(of: seed),
        let file = try? SnapshotFile(path: entry.path, secret: secret)
      else { continue }
      look(into: file, question, column: column, isFirst: number == 0, deadlineMs, &places)
    }
    return places
  }

  private func look(
    into file: SnapshotFile, _ question: PeerMessage.StoredQuestion, column: Int, isFirst: Bool,
    _ deadlineMs: UInt64, _ places: inout [StoredPlace]
  ) {
    var asked: [UInt64: [Int]] = [:]
    for (index, page) in question.pages.enumerated() {
      asked[page.hashes[column], default: []].append(index)
    }
    let samePlaces = isFirst ? keys(of: question, in: file.head) : [:]
    // Damaged, gone or slow: what came counts.
    try? file.lookups { found in
      guard MonotonicClock.nowMs < deadlineMs else { throw VaultError.slow(path: file.path) }
      for (key, filter) in found where filter != 0 {
        // Once each, however often one content was kept.
        for index in asked.removeValue(forKey: filter) ?? [] where places[index] == .nowhere {
          places[index] = .elsewhere
        }
        if let index = samePlaces[key], question.pages[index].hashes[column] == filter {
          places[index] = .samePlace
        }
      }
    }
  }

  /// The pages by their places in a snapshot.
  private func keys(
    of question: PeerMessage.StoredQuestion, in head: VaultHead
  ) -> [VaultKey: Int] {
    let numbers = question.blocks.map { name in head.blocks.firstIndex { $0.name == name } }
    var keys: [VaultKey: Int] = [:]
    for (index, page) in question.pages.enumerated() {
      guard let block = numbers[page.block] else { continue }
      keys[VaultKey(block: block, page: page.page)] = index
    }
    return keys
  }
}

extension PeerMessage.Holdings {
  /// What this host has for a guest that would be started so. Blocks.
  init(
    _ request: PeerMessage.PrepareRequest, _ launch: QEMULaunch, _ configuration: AgentConfiguration
  ) {
    let indexes = GuestImages.indexed(launch, vm: request.vm, configuration)
    images = HeldImages.match(request.images ?? [], with: indexes)?.matches ?? []
    let kept = VaultSurvey(configuration).snapshots(guest: request.vm, uuid: request.source.uuid)
    snapshot = kept.first.flatMap { PeerMessage.SnapshotOffer($0) }
    vault = kept.dropFirst().compactMap { PeerMessage.FurtherSnapshot($0) }
  }
}
