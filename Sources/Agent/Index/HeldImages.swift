import Base
import Compaction
import FoundationEssentials
import HostIO
import QMP
import Wire

/// The images that a destination offered: their blocks are read from its own copies, by its own maps of them. What
/// is read proves nothing: whoever uses it looks at its identity.
final class HeldImages: Sendable {
  private struct Image: Sendable {
    let file: ImageFile
    let map: BlockMap
  }

  private let images: [Image]

  private init(_ images: [Image]) { self.images = images }

  /// What to answer to a source's claims, out of the images that the guest has here; nil: nothing.
  static func offer(
    _ claims: [ImageClaim]?, _ client: QMPClient, vm: String, _ configuration: AgentConfiguration
  ) async -> (held: HeldImages, matches: [ImageMatch])? {
    guard let claims, !claims.isEmpty else { return nil }
    let indexes = await GuestImages.indexed(client, vm: vm, configuration)
    return try? await Blocking.run { match(claims, with: indexes) }
  }

  /// For each claim the image that has most in common with it. Blocks.
  static func match(
    _ claims: [ImageClaim], with indexes: [StoredIndex]
  ) -> (held: HeldImages, matches: [ImageMatch])? {
    let own = indexes.map { ImageParts($0.index.regions) }
    var images: [Image] = []
    var matches: [ImageMatch] = []
    for (number, claim) in claims.enumerated() {
      guard let parts = ImageParts(regionCount: claim.regions, bytes: Array(claim.parts)) else {
        continue
      }
      let candidates = own.enumerated().map { index, other in
        let same = parts.same(as: other)
        return (index: index, same: same, count: same.reduce(0) { $0 + $1.nonzeroBitCount })
      }
      guard let best = candidates.max(by: { $0.count < $1.count }), best.count > 0,
        let file = try? ImageFile(path: indexes[best.index].index.path)
      else { continue }
      images.append(Image(file: file, map: indexes[best.index].index.map))
      matches.append(ImageMatch(claim: number, same: Data(best.same)))
    }
    guard !images.isEmpty else { return nil }
    return (held: HeldImages(images), matches: matches)
  }

  /// Fills the places of `references` that are blocks of images. Returns those that could not be read or are not what
  /// they should be, by their numbers in `pages`. A source that names an image nobody offered breaks the protocol.
  func resolve(
    _ references: [(place: Int, reference: PageReference)], in pages: PageBuffer
  ) throws(RelayFailure) -> [Int] {
    // So that the disk reads all of them at once.
    for (_, reference) in references {
      guard case .disk(let note) = reference, let (file, offset) = place(note) else { continue }
      file.willNeed(at: offset, count: Page.size)
    }
    var missing: [Int] = []
    for (index, reference) in references {
      guard case .disk(let note) = reference else { continue }
      guard Int(note.image) < images.count else {
        throw .protocolViolation("reference to image \(note.image), which was not offered")
      }
      let start = index * Page.size
      guard let (file, offset) = place(note),
        (try? unsafe file.read(at: offset, into: pages.part(start, Page.size))) == Page.size,
        PageIdentity.bytes(of: pages.span(start + Page.size).extracting(start...)) == note.identity
      else {
        missing.append(index)
        continue
      }
    }
    return missing
  }

  private func place(_ note: DiskNote) -> (file: ImageFile, offset: UInt64)? {
    guard Int(note.image) < images.count, let block = UInt32(exactly: note.block),
      let offset = images[Int(note.image)].map.offset(of: block)
    else { return nil }
    return (images[Int(note.image)].file, offset)
  }
}
