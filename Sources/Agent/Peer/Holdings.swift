import Base
import Compaction

/// Where the vault of a destination has a page.
enum StoredPlace: UInt8, Codable, Sendable {
  case nowhere = 0
  /// In the guest's snapshot, at the same place.
  case samePlace = 1
  /// Anywhere else.
  case elsewhere = 2
}

extension PeerMessage {
  /// What pages of a guest could be made of at a destination, as far as it is known without its QEMU there.
  struct Holdings: Codable, Sendable {
    /// As in the offer.
    var images: [ImageMatch]
    var snapshot: SnapshotOffer?
    var vault: [FurtherSnapshot]
  }

  /// Some of a guest's pages, by fast hashes of what they hold.
  struct StoredQuestion: Codable, Sendable {
    struct Page: Codable, Sendable {
      /// Index into `blocks`.
      var block: Int
      var page: UInt64
      /// One for each of `seeds`.
      var hashes: [UInt64]
    }

    /// Of the snapshots that were named, which have no two the same.
    var seeds: [UInt64]
    /// Names of RAM blocks in QEMU's stream.
    var blocks: [String]
    var pages: [Page]
  }
}

extension PeerMessageLimits {
  /// Pages in one `StoredQuestion`.
  static let askedPagesMax = 2 * SampledContents.pagesMax
}

extension PeerMessage.Holdings {
  func validate() throws(RelayFailure) {
    typealias Limits = PeerMessageLimits
    try PeerMessage.check(images.count, Limits.imagesMax, "images")
    try snapshot?.validate()
    try PeerMessage.check(vault.count, Limits.furtherSnapshotsMax, "further snapshots")
  }
}

extension PeerMessage.StoredQuestion {
  func validate() throws(RelayFailure) {
    typealias Limits = PeerMessageLimits
    try PeerMessage.check(seeds.count, Limits.furtherSnapshotsMax + 1, "seeds")
    try PeerMessage.check(blocks.count, VaultLimits.blocksMax, "RAM blocks")
    try PeerMessage.check(pages.count, Limits.askedPagesMax, "pages")
    for page in pages {
      guard blocks.indices.contains(page.block), page.page < 1 << 48,
        page.hashes.count == seeds.count
      else { throw .protocolViolation("a question about page \(page.page), which can't be one") }
    }
  }
}
