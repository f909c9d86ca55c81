import Base
import Compaction
import QEMUStream

/// What an honest peer never exceeds. JSON that decodes is still hostile: whoever uses a message
/// may rely on what is checked here.
enum PeerMessageLimits {
  static let laneCountMax = 64
  /// A day.
  static let networkPatienceMsMax: UInt64 = 86_400_000
  /// Names, facts and arguments in one list.
  static let listMax = 65535
  /// The blocks that a stream may name; the reader at the source has the same limit.
  static let blocksMax = StreamLimits.standard.ramBlockCount
  static let ramBytesMax = StreamLimits.standard.ramLength
  /// Bytes of a RAM block's name; the stream has one byte for its length.
  static let blockNameMax = 255
  /// Pages that one `auditPages` compares.
  static let auditPagesMax = GuestDigests.stepPages
  static let auditExamplesMax = 64
  /// Images of one guest.
  static let imagesMax = 16
  /// Snapshots of other guests in one offer.
  static let furtherSnapshotsMax = 4
  static let refusalsMax = 256
  /// Of one disk: 1 EiB.
  static let diskBytesMax: UInt64 = 1 << 60
  /// Characters of a reason that are kept: it goes into journals, histories and terminals.
  static let reasonMax = 4096
}

extension PeerMessage {
  /// The message as it may be used; throws when it says what no honest peer says.
  func validated() throws(RelayFailure) -> PeerMessage {
    typealias Limits = PeerMessageLimits
    switch self {
    case .prepare(let request), .survey(let request):
      try Self.check(request.commandLine.count, Limits.listMax, "arguments")
      try Self.check(request.images?.count ?? 0, Limits.imagesMax, "images")
      try Self.check(request.disks?.count ?? 0, DiskSelection.countMax, "disks")
      try Self.check(request.staying?.count ?? 0, DiskSelection.countMax, "disks that stay")
      for disk in request.disks ?? [] {
        guard disk.byteCount <= Limits.diskBytesMax else {
          throw .protocolViolation("a disk of \(disk.byteCount) bytes")
        }
      }
      try request.source.validate()
    case .offer(let offer):
      try Self.check(offer.sharedBlocks.count, Limits.blocksMax, "shared RAM blocks")
      try Self.check(offer.encodings?.count ?? 0, Limits.listMax, "encodings")
      try offer.snapshot?.validate()
      try Self.check(offer.vault?.count ?? 0, Limits.furtherSnapshotsMax, "further snapshots")
      for other in offer.vault ?? [] {
        guard other.storedPages <= VaultLimits.pagesMax else {
          throw .protocolViolation("a further snapshot of \(other.storedPages) pages")
        }
      }
      try Self.check(offer.images?.count ?? 0, Limits.imagesMax, "images")
      try Self.check(offer.disks?.count ?? 0, DiskSelection.countMax, "disks")
      try Self.check(offer.gangBlocks?.count ?? 0, Limits.blocksMax, "RAM blocks for a gang")
      try Self.check(offer.host.hugePagesFree.count, Limits.blocksMax, "sizes of huge pages")
      try offer.destination.validate()
    case .surveyed(let answer):
      try Self.check(answer.refusals.count, Limits.refusalsMax, "refusals")
      try Self.check(answer.host.hugePagesFree.count, Limits.blocksMax, "sizes of huge pages")
      try Self.check(answer.disks?.count ?? 0, DiskSelection.countMax, "disks")
      guard answer.laneCountMax >= 1 else { throw .protocolViolation("no lanes allowed") }
      try answer.holdings?.validate()
    case .areStored(let question): try question.validate()
    case .stored(let places):
      try Self.check(places.count, Limits.askedPagesMax, "pages")
    case .refused(let refusals):
      try Self.check(refusals.count, Limits.refusalsMax, "refusals")
    case .begin(let order):
      guard (1...Limits.laneCountMax).contains(order.laneCount) else {
        throw .protocolViolation(
          "\(order.laneCount) lanes, 1 to \(Limits.laneCountMax) are allowed")
      }
      try Self.check(order.inPlaceBlocks.count, Limits.blocksMax, "RAM blocks in place")
      guard (0...Limits.furtherSnapshotsMax).contains(order.vault ?? 0) else {
        throw .protocolViolation("\(order.vault ?? 0) further snapshots")
      }
      guard order.networkPatienceMs <= Limits.networkPatienceMsMax else {
        throw .protocolViolation("a network patience of \(order.networkPatienceMs) ms")
      }
    case .layout(let blocks, _): try Self.validate(blocks)
    case .auditPages(_, let firstPage, let digests):
      try Self.check(digests.count / 16, Limits.auditPagesMax, "digests")
      guard digests.count % 16 == 0, firstPage < 1 << 52 else {
        throw .protocolViolation("\(digests.count) bytes of digests from page \(firstPage) on")
      }
    case .audited(_, _, let examples, _, let uncovered):
      try Self.check(examples.count, Limits.auditExamplesMax, "examples")
      try Self.check(uncovered?.count ?? 0, Limits.blocksMax, "RAM blocks without an audit")
    case .abort(let reason): return .abort(reason: String(reason.prefix(Limits.reasonMax)))
    case .failed(let reason): return .failed(reason: String(reason.prefix(Limits.reasonMax)))
    case .progress(let progress): return .progress(progress.bounded)
    case .ready, .closeDisks, .disksClosed, .loaded, .runState, .runStateNoted, .auditEnd, .commit,
      .running, .verdict, .settled:
      break
    }
    return self
  }

  /// The same rules as for the block list of a stream.
  private static func validate(_ blocks: [RAMBlock]) throws(RelayFailure) {
    try check(blocks.count, PeerMessageLimits.blocksMax, "RAM blocks")
    var names: Set<String> = []
    var total: UInt64 = 0
    for block in blocks {
      let nameBytes = block.name.utf8.count
      guard (1...PeerMessageLimits.blockNameMax).contains(nameBytes),
        names.insert(block.name).inserted
      else { throw .protocolViolation("RAM block name of \(nameBytes) bytes, or named twice") }
      guard block.length & UInt64(Page.size - 1) == 0,
        block.length <= PeerMessageLimits.ramBytesMax - total
      else {
        throw .protocolViolation(
          "RAM block of \(block.length) bytes; \(PeerMessageLimits.ramBytesMax) are the limit")
      }
      total += block.length
    }
  }

  static func check(_ count: Int, _ limit: Int, _ what: String) throws(RelayFailure) {
    guard count <= limit else {
      throw .protocolViolation("\(count) \(what) in a message, at most \(limit) are allowed")
    }
  }
}

extension PeerMessage.SnapshotOffer {
  /// Blocks within the limits of a stream.
  func validate() throws(RelayFailure) {
    typealias Limits = PeerMessageLimits
    try PeerMessage.check(blocks.count, Limits.blocksMax, "blocks of a snapshot")
    var total: UInt64 = 0
    for block in blocks {
      guard (1...Limits.blockNameMax).contains(block.name.utf8.count),
        block.pages <= Limits.ramBytesMax / UInt64(Page.size) - total
      else { throw .protocolViolation("a block of \(block.pages) pages in a snapshot") }
      total += block.pages
    }
    guard id.utf8.count == 32, storedPages <= total else {
      throw .protocolViolation("a snapshot of \(storedPages) pages in \(total)")
    }
  }
}

extension VMFacts {
  /// Bounds the lists; numbers are only compared, or added with care.
  fileprivate func validate() throws(RelayFailure) {
    let counts = [
      ramBlocks.count, knownMachineTypes.count, cpuFeatures.count, backends.count, disks.count,
      dirtyBitmaps.count, capabilities.count, knownCapabilities.count, blockedReasons.count,
      iterativeDevices.count,
    ]
    for count in counts {
      try PeerMessage.check(count, PeerMessageLimits.listMax, "facts of one kind")
    }
  }
}
