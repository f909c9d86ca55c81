import Base
import Compaction
import HostIO
import Wire

/// The snapshots at this host whose pages a guest's may be the same as, wherever they lay: the one that it has pages of
/// at the same place, and those of guests that share with it. What is read proves nothing: whoever uses it looks at its
/// identity.
///
/// Takes no memory for their pages: a reference says which stored page it means.
final class HeldVault: Sendable {
  private let files: [SnapshotFile]
  /// Of those whose pages were used.
  private let used = Guarded<Set<Int>>([])
  private let onUse: @Sendable (VaultID) -> Void

  /// - Parameters:
  ///   - others: in the order in which they were offered.
  ///   - onUse: called once for each of the others that a page was made of.
  init(
    _ first: HeldSnapshot, others: [SnapshotFile],
    onUse: @escaping @Sendable (VaultID) -> Void = { _ in }
  ) {
    (files, self.onUse) = ([first.file] + others, onUse)
  }

  /// Fills the places of `references` that are stored pages. Returns those that could not be read or are not what they
  /// should be, by their numbers in `pages`. A source that names a page nobody offered breaks the protocol.
  func resolve(
    _ references: [(place: Int, reference: PageReference)], in pages: PageBuffer
  ) throws(RelayFailure) -> [Int] {
    // So that the disk reads all of them at once.
    for (_, reference) in references {
      guard case .vault(let note) = reference else { continue }
      try file(note).willNeed(note.page)
    }
    var missing: [Int] = []
    for (index, reference) in references {
      guard case .vault(let note) = reference else { continue }
      let start = index * Page.size
      guard read(note.page, of: try file(note), into: pages, at: start),
        PageIdentity.bytes(of: pages.span(start + Page.size).extracting(start...)) == note.identity
      else {
        missing.append(index)
        continue
      }
      noteUse(Int(note.snapshot))
    }
    return missing
  }

  private func file(_ note: VaultNote) throws(RelayFailure) -> SnapshotFile {
    guard Int(note.snapshot) < files.count,
      note.page < files[Int(note.snapshot)].layout.storedPages
    else {
      throw .protocolViolation(
        "reference to page \(note.page) of snapshot \(note.snapshot), which was not offered")
    }
    return files[Int(note.snapshot)]
  }

  private func read(
    _ page: UInt64, of file: SnapshotFile, into pages: PageBuffer, at start: Int
  ) -> Bool {
    do { try unsafe file.read(page, into: pages.part(start, Page.size)) } catch { return false }
    return true
  }

  /// The first one's use was noted when it was opened.
  private func noteUse(_ number: Int) {
    guard number > 0, !used.read({ $0.contains(number) }),
      used.update({ $0.insert(number).inserted })
    else { return }
    onUse(files[number].head.id)
  }

  /// What the source is told of the others: frame after frame, the last one of all left to the caller. One that can't be
  /// read to its end, or takes too long, is told of as far as that came.
  ///
  /// - Parameter firstBlock: what the first of them is called in the frames, see `SnapshotFilters`.
  func tellOthers(
    from firstBlock: Int, _ send: (SnapshotFilters) throws(RelayFailure) -> Void
  ) throws(RelayFailure) {
    let deadlineMs = MonotonicClock.nowMs + HeldSnapshot.readMsMax
    for (number, file) in files.dropFirst().enumerated() {
      // A head's blocks and the offered snapshots are below 2^16.
      let block = UInt16(truncatingIfNeeded: firstBlock + number)
      var told: UInt64 = 0
      var filters: [UInt64?] = []
      func flush() throws(RelayFailure) {
        guard !filters.isEmpty else { return }
        try send(
          SnapshotFilters(block: block, isLast: false, firstPage: told, filters: filters))
        told += UInt64(filters.count)
        filters.removeAll(keepingCapacity: true)
      }
      do {
        try file.lookups { found in
          guard MonotonicClock.nowMs < deadlineMs else { throw VaultError.slow(path: file.path) }
          if filters.count + found.count > SnapshotFilters.pagesMax { try flush() }
          for (_, filter) in found { filters.append(filter) }
        }
      } catch let failure as RelayFailure {
        throw failure
      } catch {
        // Damaged, gone or slow: what came counts.
      }
      try flush()
    }
  }
}
