import Compaction
import Strategy

/// Which sampled pages a destination could make of what it has, so that they would cross the network as references.
///
/// Found as a migration finds them. Not known beforehand: what the guests of a gang have in common, and which page is the
/// same as one that was sent before.
struct KnownPages: Sendable, Equatable {
  /// What a page would be made of.
  enum Way: Sendable, Hashable {
    /// A snapshot that holds it at the same place.
    case snapshot
    /// A block of an image that both hosts have.
    case disk
    /// A kept page that lay at another place, or in another guest.
    case vault
  }

  /// By page of the contents; nil: it has to be sent.
  let ways: [Way?]
  /// How long one thread takes to name such a page here and now, in nanoseconds; nil: there is none.
  let nameNs: UInt64?
  private let lookedPages, ramPages: UInt64

  /// - Parameters:
  ///   - stored: by page, where the destination's vault has it; those behind the last one: nowhere.
  ///   - disks: nil: both hosts have no image.
  init(_ contents: SampledContents, stored: [StoredPlace], disks: DiskDirectory?) {
    var ways: [Way?] = []
    contents.forEach { index, content in
      let place = stored.indices.contains(index) ? stored[index] : .nowhere
      // The order of `BatchEncoder`.
      let way: Way? =
        if place == .samePlace {
          .snapshot
        } else if disks?.find(content) != nil {
          .disk
        } else {
          place == .elsewhere ? .vault : nil
        }
      ways.append(way)
    }
    self.ways = ways
    nameNs = contents.nameNs(ways, disks: disks)
    (lookedPages, ramPages) = (contents.lookedPages, contents.ramPages)
  }

  /// Pages of RAM that would be made so.
  func pages(_ way: Way) -> PageEstimate {
    PageEstimate(
      found: UInt64(ways.count { $0 == way }), of: lookedPages, ramPages: ramPages)
  }
}

extension GuestSample.Known {
  init(_ pages: KnownPages) {
    snapshot = .init(pages.pages(.snapshot))
    disk = .init(pages.pages(.disk))
    vault = .init(pages.pages(.vault))
  }
}
