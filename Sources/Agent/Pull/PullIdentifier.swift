import Base
import HostIO
import QEMUStream
import Wire

/// The source's word on which pages of the stopped guest the destination may make of what it has: a snapshot of the
/// guest, images that both hosts have, or what its vault has elsewhere. All were agreed on at the beginning, for the copy.
struct PullIdentifier: Sendable {
  let held: HeldPages?
  let disks: DiskDirectory?
  /// For pages that lay at other places of the snapshot, or in others; nil: the destination knows nothing of these.
  let elsewhere: VaultReferences?
  /// The stream's, once it has named them.
  var blocks: [RAMBlock] = []

  /// Nil: the destination has neither.
  ///
  /// - Parameter namesStored: the destination knows of pages that are stored elsewhere.
  init?(held: HeldPages?, disks: DiskDirectory?, namesStored: Bool = false) {
    guard held != nil || disks != nil else { return nil }
    (self.held, self.disks) = (held, disks)
    elsewhere = namesStored ? held?.elsewhere : nil
  }

  /// What proves pages that follow each other.
  ///
  /// - Parameter contents: 4096 bytes for each.
  func identities(block: UInt16, firstPage: UInt64, of contents: RawSpan) -> [PullIdentity] {
    let count = contents.byteCount / Page.size
    let run = PageRun(
      block: block, pageClass: .raw, firstPage: firstPage, count: UInt32(clamping: count))
    let filters = held?.filters(of: [run], blocks) ?? []
    var identities: [PullIdentity] = []
    identities.reserveCapacity(count)
    for index in 0..<count {
      let page = contents.extracting(index * Page.size..<(index + 1) * Page.size)
      identities.append(identity(of: page, filter: index < filters.count ? filters[index] : 0))
    }
    return identities
  }

  private func identity(of page: RawSpan, filter: UInt64) -> PullIdentity {
    // A page of zeros costs nothing as it is.
    guard !page.isAllZero else { return .unknown }
    if let identity = held?.identity(of: page, filter: filter) { return .held(identity) }
    if let note = disks?.find(page) { return .disk(note) }
    return elsewhere?.find(page).map { .vault($0) } ?? .unknown
  }
}
