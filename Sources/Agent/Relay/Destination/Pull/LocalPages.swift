import Base
import Compaction
import HostIO
import QEMUStream
import Strategy
import Wire

/// Makes pages of a pulled guest of what this host has. Calls come from several threads.
protocol PageMaker: Sendable {
  /// Pages that may be here, by number; nil: any.
  var candidates: PageBitmap? { get }

  /// Whether this is something that was agreed on.
  func isAgreedOn(_ identity: PullIdentity) -> Bool

  /// The source says what the page is.
  func keep(_ proof: PullIdentity, of page: Int)

  /// The pages have come from the source, whether it was asked or not.
  func forget(_ pages: Range<Int>)

  /// Makes the pages, each with a place in `buffer`, in order. Blocks, and may never return: it reads disks.
  ///
  /// - Returns: where each comes from; nil where it could not be made.
  func make(_ pages: [Int], into buffer: PageBuffer) throws(RelayFailure) -> [PullOrigin?]
}

/// What this host can make pages of: a snapshot of the guest, images that it offered, and stored pages wherever they lay.
///
/// A page counts only with what proves it (SHA-256), which comes from the source. Proofs are kept from the answer
/// until the page is made, and the directory bounds how many there are.
final class LocalPages: PageMaker {
  /// Pages that are made at once, so that a disk reads them together.
  static let batchPages = 32

  private let snapshot: HeldSnapshot?
  private let images: HeldImages?
  private let vault: HeldVault?
  private let blocks: [RAMBlock]
  private let numbering: PageNumbering
  private let proofs = Guarded<[Int: PullIdentity]>([:])

  /// Nil: there is nothing to make pages of.
  ///
  /// - Parameter vault: for a source that names stored pages.
  init?(
    snapshot: HeldSnapshot?, images: HeldImages?, vault: HeldVault? = nil, blocks: [RAMBlock]
  ) {
    guard snapshot != nil || images != nil || vault != nil else { return nil }
    (self.snapshot, self.images, self.vault, self.blocks) = (snapshot, images, vault, blocks)
    numbering = PageNumbering(blockPages: blocks.map(\.pageCount))
  }

  /// With images any: whatever a guest reads from its disk may lie anywhere. So may what it has moved since.
  var candidates: PageBitmap? {
    guard images == nil, vault == nil, let snapshot else { return nil }
    var pages = PageBitmap(count: numbering.limit)
    for (block, base) in numbering.bases.enumerated() {
      snapshot.forEachPage(of: blocks[block].name) { page in
        if page < UInt64(numbering.counts[block]) { _ = pages.insert(base + Int(page)) }
      }
    }
    return pages
  }

  func isAgreedOn(_ identity: PullIdentity) -> Bool {
    switch identity {
    case .unknown: true
    case .held: snapshot != nil
    case .disk: images != nil
    case .vault: vault != nil
    }
  }

  func keep(_ proof: PullIdentity, of page: Int) { proofs.update { $0[page] = proof } }

  func forget(_ pages: Range<Int>) {
    proofs.update { proofs in
      guard !proofs.isEmpty else { return }
      for page in pages { proofs[page] = nil }
    }
  }

  func make(_ pages: [Int], into buffer: PageBuffer) throws(RelayFailure) -> [PullOrigin?] {
    let taken = proofs.update { proofs in pages.map { proofs.removeValue(forKey: $0) } }
    var origins = [PullOrigin?](repeating: nil, count: pages.count)
    var blocksOfImages: [(place: Int, reference: PageReference)] = []
    var stored: [(place: Int, reference: PageReference)] = []
    for (index, proof) in taken.enumerated() {
      switch proof {
      case .held(let identity):
        if copy(pages[index], identity, into: buffer, at: index) { origins[index] = .snapshot }
      case .disk(let note): blocksOfImages.append((place: index, reference: .disk(note)))
      case .vault(let note): stored.append((place: index, reference: .vault(note)))
      case .unknown, nil: break
      }
    }
    if let images, !blocksOfImages.isEmpty {
      let missing = Set(try images.resolve(blocksOfImages, in: buffer))
      for (index, _) in blocksOfImages where !missing.contains(index) { origins[index] = .disk }
    }
    if let vault, !stored.isEmpty {
      let missing = Set(try vault.resolve(stored, in: buffer))
      for (index, _) in stored where !missing.contains(index) { origins[index] = .vault }
    }
    return origins
  }

  /// The page as the snapshot has it, if that is what it should be.
  private func copy(
    _ page: Int, _ identity: [UInt8], into buffer: PageBuffer, at index: Int
  ) -> Bool {
    let block = numbering.block(of: page)
    let start = index * Page.size
    guard let snapshot,
      unsafe snapshot.read(
        block: blocks[block].name, page: UInt64(page - numbering.bases[block]),
        into: buffer.part(start, Page.size))
    else { return false }
    return PageIdentity.bytes(of: buffer.span(start + Page.size).extracting(start...)) == identity
  }
}
