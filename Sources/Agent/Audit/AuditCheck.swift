import Base
import Compaction
import FoundationEssentials
import HostIO

/// The destination's half of an audit: compares the source's digests with its own memory.
struct AuditCheck {
  /// Pages named in the result, at most.
  static let examplesMax = 16

  private var compared: UInt64 = 0
  private var differing: UInt64 = 0
  /// Pages that were not here yet: they are compared as a pull brings them.
  private var left: UInt64 = 0
  /// RAM blocks whose place in QEMU is not known.
  private var uncovered: Set<String> = []
  private var examples: [String] = []
  private var own: GuestDigests?

  var message: PeerMessage {
    .audited(
      pagesCompared: compared, pagesDiffering: differing, examples: examples, pagesLeft: left,
      uncoveredBlocks: uncovered.sorted())
  }

  /// - Parameter pull: of a guest that moves before its memory: it compares what comes later.
  mutating func check(
    block: String, firstPage: UInt64, digests: Data, _ qemu: IncomingQEMU, _ pull: PullFeeder?
  ) async throws {
    let own: GuestDigests
    if let opened = self.own {
      own = opened
    } else {
      own = try await GuestDigests.open(qemu.monitor.client, pid: qemu.identity.pid)
      self.own = own
    }
    let theirs = try Self.decode([UInt8](digests))
    guard own.length(of: block) != nil else {
      uncovered.insert(block)
      guard uncovered.count <= PeerMessageLimits.blocksMax else {
        throw RelayFailure.protocolViolation("\(uncovered.count) RAM blocks that are not here")
      }
      return
    }
    let isHere = try pull?.expect(block: block, firstPage: firstPage, digests: theirs)
    left += UInt64(isHere?.count { !$0 } ?? 0)
    // Memory that QEMU waits for must not be touched: its reader would wait as well.
    var next = 0
    while let first = Self.firstPage(in: isHere, from: next, of: theirs.count) {
      let end = Self.end(in: isHere, from: first, of: theirs.count)
      let mine = try Self.decode(
        try await Blocking.run {
          try own.digests(of: block, firstPage: firstPage + UInt64(first), count: end - first)
        })
      for page in first..<end {
        note(block, firstPage + UInt64(page), theirs[page] == mine[page - first])
      }
      next = end
    }
  }

  private mutating func note(_ block: String, _ page: UInt64, _ isEqual: Bool) {
    compared += 1
    guard !isEqual else { return }
    differing += 1
    if examples.count < Self.examplesMax {
      examples.append("\(block)+0x\(String(page << 12, radix: 16))")
    }
  }

  private static func firstPage(in isHere: [Bool]?, from start: Int, of count: Int) -> Int? {
    guard let isHere else { return start < count ? start : nil }
    return isHere[start...].firstIndex(of: true)
  }

  private static func end(in isHere: [Bool]?, from start: Int, of count: Int) -> Int {
    isHere?[start...].firstIndex(of: false) ?? count
  }

  private static func decode(_ bytes: [UInt8]) throws(DecodeError) -> [PageFingerprint] {
    var cursor = unsafe ByteCursor(bytes.span.bytes)
    var digests: [PageFingerprint] = []
    digests.reserveCapacity(bytes.count / PageFingerprint.byteCount)
    while cursor.remaining >= PageFingerprint.byteCount {
      digests.append(try PageFingerprint(decoding: &cursor))
    }
    return digests
  }
}
