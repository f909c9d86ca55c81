import Base
import Compaction
import HostIO
import QEMUStream
import Synchronization
import Wire

/// What the source knows of a snapshot of its guest at the destination: which pages it holds, by a fast hash.
///
/// The hash only filters. What goes as held is proven to the destination by SHA-256, page for page. Takes 8
/// bytes of memory for each page of the blocks that the snapshot has, without what `elsewhere` takes.
final class HeldPages: Sendable {
  private struct State {
    /// By the snapshot's blocks and their pages; 0: not held. Empty before a block's first frame.
    var filters: [[UInt64]]
    /// The frame after the last one of a block may not begin before this page.
    var nextPages: [UInt64]
    var isComplete = false
    /// The snapshot's block for each block of the stream, once the stream has named them.
    var map: [Int?]?
  }

  let offer: PeerMessage.SnapshotOffer
  /// For pages that lay at other places, or in other snapshots; nil: only those at the same place are looked for.
  let elsewhere: VaultReferences?
  private let state: Guarded<State>
  /// Names of blocks that this side can read again, should the destination ask for a page of them.
  private let readable: Set<String>
  /// Names of blocks that the destination writes in place.
  private let inPlace: Set<String>
  private let found = Atomic<UInt64>(0)
  private let refetched = Atomic<UInt64>(0)

  /// Memory that it takes, in bytes.
  static func memoryBytes(_ offer: PeerMessage.SnapshotOffer) -> UInt64 {
    offer.blocks.reduce(0) { $0 + min($1.pages, VaultLimits.pagesMax) * 8 }
  }

  init(
    _ offer: PeerMessage.SnapshotOffer, readable: Set<String>, inPlace: Set<String>,
    elsewhere: VaultReferences? = nil
  ) {
    (self.offer, self.readable, self.inPlace) = (offer, readable, inPlace)
    self.elsewhere = elsewhere
    state = Guarded(
      State(
        filters: Array(repeating: [], count: offer.blocks.count),
        nextPages: Array(repeating: 0, count: offer.blocks.count)))
  }

  /// Takes a `snapshotFilters` frame.
  func arrived(_ payload: [UInt8]) throws(RelayFailure) {
    let frame: SnapshotFilters
    do throws(DecodeError) {
      var cursor = unsafe ByteCursor(payload.span.bytes)
      frame = try SnapshotFilters(decoding: &cursor)
    } catch {
      throw .protocolViolation("\(error)")
    }
    let isSound = state.update { state -> Bool in
      guard !state.isComplete else { return false }
      state.isComplete = frame.isLast
      // One that says nothing may only be the last: so there are no more of them than pages.
      guard !frame.filters.isEmpty else { return frame.isLast }
      return Int(frame.block) < offer.blocks.count ? take(frame, &state) : takeFurther(frame)
    }
    guard isSound else {
      throw .protocolViolation(
        "filters of pages that the snapshot does not have, or twice, or of none")
    }
  }

  /// Filters of a block of the snapshot; false: it has no such pages.
  private func take(_ frame: SnapshotFilters, _ state: inout State) -> Bool {
    let block = Int(frame.block)
    guard frame.firstPage >= state.nextPages[block],
      frame.firstPage + UInt64(frame.filters.count) <= offer.blocks[block].pages
    else { return false }
    if state.filters[block].isEmpty {
      state.filters[block] = Array(repeating: 0, count: Int(offer.blocks[block].pages))
    }
    for (index, filter) in frame.filters.enumerated() {
      state.filters[block][Int(frame.firstPage) + index] = filter ?? 0
    }
    state.nextPages[block] = frame.firstPage + UInt64(frame.filters.count)
    // They come in the order in which the pages are stored.
    return elsewhere?.arrived(frame.filters.compactMap(\.self), of: 0) ?? true
  }

  /// Filters of a further snapshot; false: there is no such one, or it has no such pages.
  private func takeFurther(_ frame: SnapshotFilters) -> Bool {
    let number = Int(frame.block) - offer.blocks.count + 1
    guard let elsewhere, number <= elsewhere.furtherCount else { return false }
    return elsewhere.arrived(
      frame.filters.map { $0 ?? 0 }, of: number, firstPage: frame.firstPage)
  }

  /// Whether all is known.
  var isComplete: Bool { state.read { $0.isComplete } }

  /// Waits until all is known, at most `timeoutMs`; what comes later counts from then on. Blocks.
  func waitUntilComplete(timeoutMs: UInt64) {
    _ = state.wait(timeoutMs: timeoutMs) { $0.isComplete ? true : nil }
  }

  /// For the pages of a batch that are not zero: their filters, 0 where nothing is held.
  ///
  /// - Parameter blocks: the stream's.
  func filters(of runs: [PageRun], _ blocks: [RAMBlock]) -> [UInt64] {
    guard isPaying else { return [] }
    let names = Set(runs.map { Int($0.block) }).map {
      blocks.indices.contains($0) ? blocks[$0].name : ""
    }
    let areInPlace = names.count { inPlace.contains($0) }
    // All of a frame goes one way at the destination, so that it can be proven there in one piece.
    guard names.allSatisfy(readable.contains), areInPlace == 0 || areInPlace == names.count else {
      return []
    }
    return state.update { state in
      let map = state.map ?? mapped(blocks)
      state.map = map
      return runs.rawPlaces.map { place in
        guard let block = map[Int(place.block)], place.page < UInt64(state.filters[block].count)
        else { return 0 }
        return state.filters[block][Int(place.page)]
      }
    }
  }

  private func mapped(_ blocks: [RAMBlock]) -> [Int?] {
    blocks.map { block in offer.blocks.firstIndex { $0.name == block.name } }
  }

  /// The page's identity where the destination should hold the same; nil where it doesn't.
  func identity(of page: RawSpan, filter: UInt64) -> [UInt8]? {
    guard filter != 0, SentMemory.hash(page, seed: offer.seed) == filter else { return nil }
    found.add(1, ordering: .relaxed)
    return PageIdentity.bytes(of: page)
  }

  /// The destination asked for so many pages that it was said to hold.
  func noteRefetched(_ pages: Int) { refetched.add(UInt64(pages), ordering: .relaxed) }

  /// As for blocks of disks: a snapshot that can't be read, or isn't what it was, costs each page a turn.
  private var isPaying: Bool {
    let failed = refetched.load(ordering: .relaxed)
    guard failed >= DiskDirectory.refetchedMin else { return true }
    return failed * DiskDirectory.refetchedShare < found.load(ordering: .relaxed)
  }
}
