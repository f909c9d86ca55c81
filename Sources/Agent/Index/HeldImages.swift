import Base
import Compaction
import FoundationEssentials
import HostIO
import QMP
import Wire

/// The images that a destination offered, and the copies of disks that come with the guest: their blocks are read from
/// its own files, by its own maps of them. What is read proves nothing: whoever uses it looks at its identity.
final class HeldImages: Sendable {
  private struct Image: Sendable {
    let file: ImageFile
    let map: BlockMap
  }

  private let images: [Image]
  /// By the number that both sides know the disk by; nil: one that cannot be read.
  private let copies: [Image?]

  private init(_ images: [Image], _ copies: [Image?]) {
    (self.images, self.copies) = (images, copies)
  }

  /// What notes call the copy of the disk with this number: behind all images that may be offered.
  static func number(ofCopy disk: Int) -> UInt16 {
    UInt16(clamping: PeerMessageLimits.imagesMax + disk)
  }

  /// What to answer to a source's claims, out of the images that the guest has here; nil: nothing.
  ///
  /// - Parameter copies: paths of the disks that come with the guest, if blocks of them may be named.
  static func offer(
    _ claims: [ImageClaim]?, copies: [String], _ client: QMPClient, vm: String,
    _ configuration: AgentConfiguration
  ) async -> (held: HeldImages, matches: [ImageMatch])? {
    let claims = claims ?? []
    let indexes =
      claims.isEmpty ? [] : await GuestImages.indexed(client, vm: vm, configuration)
    return try? await Blocking.run { match(claims, with: indexes, copies: copies) }
  }

  /// For each claim the image that has most in common with it. Nil where that is none, and there are no copies. Blocks.
  static func match(
    _ claims: [ImageClaim], with indexes: [StoredIndex], copies: [String] = []
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
    guard !images.isEmpty || !copies.isEmpty else { return nil }
    return (held: HeldImages(images, copies.map { open(copy: $0) }), matches: matches)
  }

  /// A raw disk that is still being written to.
  private static func open(copy path: String) -> Image? {
    guard let file = try? ImageFile(path: path), let state = try? file.state(),
      state.byteCount <= ImageLimits.imageBytesMax
    else { return nil }
    return Image(file: file, map: .raw(blocks: ImageLimits.blocks(of: state.byteCount)))
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
      guard isOffered(note) else {
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

  private func isOffered(_ note: DiskNote) -> Bool {
    let number = Int(note.image)
    return images.indices.contains(number)
      || copies.indices.contains(number - PeerMessageLimits.imagesMax)
  }

  private func place(_ note: DiskNote) -> (file: ImageFile, offset: UInt64)? {
    guard isOffered(note), let block = UInt32(exactly: note.block) else { return nil }
    let number = Int(note.image)
    let image =
      number < images.count ? images[number] : copies[number - PeerMessageLimits.imagesMax]
    guard let image, let offset = image.map.offset(of: block) else { return nil }
    return (image.file, offset)
  }
}
