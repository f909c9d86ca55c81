import Base
import Compaction
import HostIO
import QEMUStream
import Strategy

extension PullFeeder {
  private static let zeroDigest = PageFingerprint(
    of: PageBuffer.zeroed(byteCount: Page.size).span(Page.size))

  /// A page of zeros goes to QEMU.
  func noteZeroForAudit(_ block: Int, _ page: UInt64) { note(block, page, Self.zeroDigest) }

  /// The page at `place` of the batch's page bytes goes to QEMU.
  func noteForAudit(_ block: Int, _ page: UInt64, _ buffer: PageBuffer?, at place: Int) {
    guard audit != nil, let buffer else { return }
    let bytes = buffer.span((place + 1) * Page.size).extracting(last: Page.size)
    note(block, page, PageFingerprint(of: bytes))
  }

  private func note(_ block: Int, _ page: UInt64, _ digest: PageFingerprint) {
    guard let audit else { return }
    let number = directory.read { $0.numbering.number(block: block, page: Int(page)) }
    audit.update { $0.note(number, digest) }
  }

  /// The source has said all its digests: what every page was compared with is known.
  func auditEnded() {
    audit?.update { $0.isComplete = true }
    tellIfComplete()
  }

  /// The source's digests of a block's pages from `firstPage` on.
  ///
  /// - Returns: which of them were here before the guest: those are to be compared in QEMU's memory. The
  ///   others are compared as they come.
  func expect(
    block name: String, firstPage: UInt64, digests: [PageFingerprint]
  ) throws(PullRefusal) -> [Bool] {
    guard let block = blocks.firstIndex(where: { $0.name == name }) else { throw .noSuchPage(-1) }
    return try directory.update { (directory) throws(PullRefusal) in
      let pages = try directory.numbering.numbers(
        block: block, firstPage: firstPage, count: UInt64(digests.count))
      var isHere: [Bool] = []
      isHere.reserveCapacity(digests.count)
      for (index, page) in pages.enumerated() {
        let wasHere = try directory.state(of: page) == .present
        isHere.append(wasHere)
        if !wasHere { audit?.update { $0.note(page, digests[index]) } }
      }
      return isHere
    }
  }
}
