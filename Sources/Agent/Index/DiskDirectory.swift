import Base
import Compaction
import Synchronization
import Wire

/// The source's view of the images that both hosts have, and of the copies of disks that move with the guest: finds the
/// block that a page is the same as.
final class DiskDirectory: Sendable {
  /// Pages asked for again after which it is seen whether references pay.
  static let refetchedMin: UInt64 = 256
  /// One in so many references may fail; where more do, both hosts' images are no longer what was indexed.
  static let refetchedShare: UInt64 = 4

  private struct Image: Sendable {
    /// Its place in the destination's offer.
    let number: UInt16
    let stored: StoredIndex
    let parts: ImageParts
    /// Parts that the destination has, too.
    let same: [UInt8]
  }

  private let images: [Image]
  /// Nil: none.
  private let copied: CopiedDisks?
  private let found = Atomic<UInt64>(0)
  private let refetched = Atomic<UInt64>(0)

  /// - Parameters:
  ///   - indexes: those that were claimed, in that order.
  ///   - matches: the destination's answer; what fits no claim is left out.
  ///   - copied: disks that move along; nil: none whose blocks may be named. Without images and without these nil.
  init?(_ indexes: [StoredIndex], _ matches: [ImageMatch], _ copied: CopiedDisks? = nil) {
    self.copied = copied
    images = matches.prefix(PeerMessageLimits.imagesMax).enumerated().compactMap {
      (number, match) -> Image? in
      guard indexes.indices.contains(match.claim) else { return nil }
      let stored = indexes[match.claim]
      return Image(
        number: UInt16(number), stored: stored, parts: ImageParts(stored.index.regions),
        same: Array(match.same))
    }
    if images.isEmpty, copied == nil { return nil }
  }

  /// A block that holds the same as the page and that the destination should have; nil: none.
  func find(_ content: RawSpan) -> DiskNote? {
    guard isPaying else { return nil }
    var identity: [UInt8]?
    if let note = findImage(content, &identity) ?? findCopy(content, identity) {
      found.add(1, ordering: .relaxed)
      return note
    }
    return nil
  }

  private func findImage(_ content: RawSpan, _ identity: inout [UInt8]?) -> DiskNote? {
    guard !images.isEmpty else { return nil }
    let tag = IndexedBlock.tag(of: content)
    for image in images {
      let block = image.stored.find(content, tag, &identity) {
        image.parts.has($0, in: image.same)
      }
      guard let block, let identity else { continue }
      return DiskNote(image: image.number, block: UInt64(block), identity: identity)
    }
    return nil
  }

  private func findCopy(_ content: RawSpan, _ identity: [UInt8]?) -> DiskNote? {
    guard let place = copied?.find(content) else { return nil }
    return DiskNote(
      image: HeldImages.number(ofCopy: place.disk), block: UInt64(place.block),
      identity: identity ?? PageIdentity.bytes(of: content))
  }

  /// The destination asked for so many pages, whatever they referred to.
  func noteRefetched(_ pages: Int) { refetched.add(UInt64(pages), ordering: .relaxed) }

  /// Each reference that fails costs a page and a turn; too many, and there are no more of them.
  private var isPaying: Bool {
    let failed = refetched.load(ordering: .relaxed)
    guard failed >= Self.refetchedMin else { return true }
    return failed * Self.refetchedShare < found.load(ordering: .relaxed)
  }
}
