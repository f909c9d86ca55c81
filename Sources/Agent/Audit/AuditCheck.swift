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
  private var examples: [String] = []
  private var own: GuestDigests?

  var message: PeerMessage {
    .audited(pagesCompared: compared, pagesDiffering: differing, examples: examples)
  }

  mutating func check(
    block: String, firstPage: UInt64, digests: Data, _ qemu: IncomingQEMU
  ) async throws {
    let own: GuestDigests
    if let opened = self.own {
      own = opened
    } else {
      own = try await GuestDigests.open(qemu.monitor.client, pid: qemu.identity.pid)
      self.own = own
    }
    let size = PageFingerprint.byteCount
    let theirs = [UInt8](digests)
    let count = theirs.count / size
    guard own.length(of: block) != nil else { return }
    let mine = try await Blocking.run {
      try own.digests(of: block, firstPage: firstPage, count: count)
    }
    for page in 0..<count {
      compared += 1
      guard theirs[page * size..<(page + 1) * size] != mine[page * size..<(page + 1) * size] else {
        continue
      }
      differing += 1
      if examples.count < Self.examplesMax {
        examples.append("\(block)+0x\(String((firstPage + UInt64(page)) << 12, radix: 16))")
      }
    }
  }
}
