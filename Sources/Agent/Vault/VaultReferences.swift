import Base
import Compaction
import HostIO
import Synchronization
import Wire

/// The source's view of the snapshots at the destination: finds the stored page that a page is the same as, at
/// whatever place it lay, in the guest's own snapshot or in one of a guest that shares with it.
///
/// Takes the memory of a `VaultDirectory`.
final class VaultReferences: Sendable {
  /// Of each snapshot's hashes; the first is of the one whose pages are held at the same place.
  private let seeds: [UInt64]
  private let directory: Guarded<VaultDirectory>
  private let found = Atomic<UInt64>(0)
  private let refetched = Atomic<UInt64>(0)

  /// Of the snapshots that a destination offers: as many as there is memory for, in their order; nil: none.
  ///
  /// - Parameters:
  ///   - first: the one whose pages are held at the same place.
  ///   - byteLimit: memory for it.
  init?(
    _ first: PeerMessage.SnapshotOffer, _ others: [PeerMessage.FurtherSnapshot], byteLimit: UInt64
  ) {
    var (seeds, pages) = ([first.seed], [first.storedPages])
    var total = first.storedPages
    guard VaultDirectory.byteCount(pages: total) <= byteLimit else { return nil }
    for other in others {
      let (sum, overflow) = total.addingReportingOverflow(other.storedPages)
      guard !overflow, VaultDirectory.byteCount(pages: sum) <= byteLimit else { break }
      total = sum
      seeds.append(other.seed)
      pages.append(other.storedPages)
    }
    guard let directory = VaultDirectory(pages: pages) else { return nil }
    (self.seeds, self.directory) = (seeds, Guarded(directory))
  }

  /// Snapshots beside the first that are wanted.
  var furtherCount: Int { seeds.count - 1 }

  /// The hashes of a snapshot's next stored pages; false: they are not the next ones, or it has not so many.
  ///
  /// - Parameter firstPage: the number of the first of them among the stored ones; nil: whichever comes next.
  func arrived(_ filters: [UInt64], of snapshot: Int, firstPage: UInt64? = nil) -> Bool {
    directory.update { directory in
      guard firstPage.map({ $0 == directory.knownPages(of: snapshot) }) ?? true else {
        return false
      }
      return directory.add(filters, of: snapshot)
    }
  }

  /// A stored page that holds the same as the page; nil: none is known.
  func find(_ content: RawSpan) -> VaultNote? {
    guard isPaying else { return nil }
    for (number, seed) in seeds.enumerated() {
      let hash = SentMemory.hash(content, seed: seed)
      guard let page = directory.read({ $0.find(hash, in: number) }) else { continue }
      found.add(1, ordering: .relaxed)
      return VaultNote(
        snapshot: UInt16(truncatingIfNeeded: number),  // at most `PeerMessageLimits.snapshotsMax`
        page: page, identity: PageIdentity.bytes(of: content))
    }
    return nil
  }

  /// The destination asked for so many pages that referred to stored ones.
  func noteRefetched(_ pages: Int) { refetched.add(UInt64(pages), ordering: .relaxed) }

  /// As for blocks of disks: too many references that fail, and there are no more of them.
  private var isPaying: Bool {
    let failed = refetched.load(ordering: .relaxed)
    guard failed >= DiskDirectory.refetchedMin else { return true }
    return failed * DiskDirectory.refetchedShare < found.load(ordering: .relaxed)
  }
}
