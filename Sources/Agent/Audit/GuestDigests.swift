import Base
import Compaction
import HostIO
import QMP

/// Fingerprints of a stopped guest's pages, read from its QEMU's memory.
final class GuestDigests: Sendable {
  /// Pages per step: 64 MiB of memory, 256 KiB of digests.
  static let stepPages = 16384

  private let memory: ProcessMemory
  /// Where each RAM block begins in QEMU, and its length, in bytes.
  private let blocks: [String: (address: UInt64, length: UInt64)]

  /// Finds the blocks of the QEMU in process `pid`.
  static func open(_ client: QMPClient, pid: Int32) async throws -> GuestDigests {
    let blocks = try await client.ramBlocks()
    let addresses = try await HostAddresses.find(blocks, client)
    var places: [String: (UInt64, UInt64)] = [:]
    for block in blocks {
      if let address = addresses[block.name] { places[block.name] = (address, block.usedSize) }
    }
    return try GuestDigests(memory: ProcessMemory(pid: pid), blocks: places)
  }

  private init(memory: ProcessMemory, blocks: [String: (address: UInt64, length: UInt64)]) {
    (self.memory, self.blocks) = (memory, blocks)
  }

  /// Bytes of the block; nil when its place in QEMU is not known.
  func length(of block: String) -> UInt64? { blocks[block]?.length }

  /// 16 bytes per page of `[firstPage, firstPage + count)`.
  func digests(of block: String, firstPage: UInt64, count: Int) throws -> [UInt8] {
    guard let place = blocks[block], count <= Self.stepPages,
      firstPage + UInt64(count) <= UInt64(Page.count(bytes: place.length))
    else { throw RelayFailure.protocolViolation("audit outside RAM block \(block)") }
    let chunk = 1024
    let buffer = PageBuffer(byteCount: chunk * Page.size)
    var out: [UInt8] = []
    out.reserveCapacity(count * PageFingerprint.byteCount)
    var done = 0
    while done < count {
      let pages = min(chunk, count - done)
      let address = place.address + (firstPage + UInt64(done)) << UInt64(Page.shift)
      try unsafe memory.read(at: address, into: buffer.part(0, pages * Page.size))
      let span = buffer.span(pages * Page.size)
      for page in 0..<pages {
        PageFingerprint(of: span.extracting(page * Page.size..<(page + 1) * Page.size))
          .encode(into: &out)
      }
      done += pages
    }
    return out
  }
}
