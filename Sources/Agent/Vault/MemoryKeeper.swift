import Base
import Compaction
import HostIO
import QEMUStream

/// Copies the memory of a guest that has stopped here for good into the vault.
struct MemoryKeeper {
  /// Pages that are read at once.
  private static let stepPages = 64
  /// Room is made for so many bytes at a time.
  private static let roomBytes: UInt64 = 64 << 20

  let vault: Vault
  let memory: StoppedMemory
  /// The stream's, in the order in which `memory` numbers them.
  let blocks: [RAMBlock]
  let guest: String
  let uuid: String

  /// Blocks that can be read, by their place in `blocks`.
  private var readable: [Int] { blocks.indices.filter { memory.isReadable[$0] } }

  /// Bytes that are to be looked at.
  var ramBytes: UInt64 { readable.reduce(0) { $0 + blocks[$1].length } }

  /// Blocks; for a thread of its own. Leaves a whole snapshot, or none.
  ///
  /// - Parameters:
  ///   - isCalledOff: asked often.
  ///   - progress: bytes looked at so far.
  func keep(
    isCalledOff: () -> Bool, progress: (UInt64) -> Void
  ) throws -> MigrationRecord.Kept {
    guard vault.quotaBytes > 0 else {
      throw VaultError.cannotBeKept("vaultQuota is 0 on this host: nothing is kept")
    }
    var random = SystemRandomNumberGenerator()
    let made = VaultHead(
      id: VaultID(using: &random), takenAt: max(MonotonicClock.wallSeconds, 0),
      seed: random.next(), guest: guest, uuid: uuid,
      blocks: readable.map {
        .init(name: blocks[$0].name, pages: UInt64(blocks[$0].pageCount))
      })
    guard let head = made else {
      throw VaultError.cannotBeKept("its names or blocks are over the limits")
    }
    let startMs = MonotonicClock.nowMs
    let writer = try vault.begin(head)
    do {
      try copy(to: writer, isCalledOff, progress)
      try vault.finish(writer)
    } catch {
      vault.abandon(writer)
      throw error
    }
    var kept = MigrationRecord.Kept()
    (kept.pages, kept.zeroPages, kept.bytes) = (
      writer.storedPages, writer.zeroPages, writer.byteCount
    )
    kept.durationMs = MonotonicClock.nowMs - startMs
    return kept
  }

  private func copy(
    to writer: SnapshotWriter, _ isCalledOff: () -> Bool, _ progress: (UInt64) -> Void
  ) throws {
    let buffer = PageBuffer(byteCount: Self.stepPages * Page.size)
    // Nothing makes way for what can't fit.
    if mostBytes(of: ramBytes) > vault.quotaBytes {
      let most = mostBytes(of: try fullPages(buffer, isCalledOff) << UInt64(Page.shift))
      guard most <= vault.quotaBytes else { throw VaultError.full(quotaBytes: vault.quotaBytes) }
    }
    var doneBytes: UInt64 = 0
    var roomUntil: UInt64 = 0
    for (index, block) in readable.enumerated() {
      let pages = blocks[block].pageCount
      for first in stride(from: 0, to: pages, by: Self.stepPages) {
        guard !isCalledOff() else { throw VaultError.calledOff }
        if writer.byteCount + UInt64(VaultSegment.byteCountMax) > roomUntil {
          let room = min(Self.roomBytes, mostBytes(of: ramBytes - doneBytes))
          try vault.makeRoom(for: room, of: writer)
          roomUntil = writer.byteCount + room
        }
        let count = min(Self.stepPages, pages - first)
        try add(count, from: UInt64(first), block, as: index, buffer, to: writer)
        doneBytes += UInt64(count * Page.size)
        progress(doneBytes)
      }
    }
  }

  /// Pages that hold something other than zeros. Reads all memory that may.
  private func fullPages(_ buffer: PageBuffer, _ isCalledOff: () -> Bool) throws -> UInt64 {
    var sum: UInt64 = 0
    for block in readable {
      let pages = blocks[block].pageCount
      for first in stride(from: 0, to: pages, by: Self.stepPages) {
        guard !isCalledOff() else { throw VaultError.calledOff }
        let count = min(Self.stepPages, pages - first)
        guard try memory.mayHoldData(block: block, firstPage: UInt64(first), pages: count) else {
          continue
        }
        try unsafe memory.read(
          block: block, firstPage: UInt64(first), into: buffer.part(0, count * Page.size))
        for page in 0..<count {
          let content = buffer.span((page + 1) * Page.size).extracting((page * Page.size)...)
          sum += content.isAllZero ? 0 : 1
        }
      }
    }
    return sum
  }

  /// What so much memory takes in a file at most, with what is not written yet.
  private func mostBytes(of memory: UInt64) -> UInt64 {
    let bytes =
      memory / UInt64(Page.size) * UInt64(VaultSegment.pageByteCount)
      + UInt64(2 * VaultSegment.byteCountMax)
    return vault.keyFile == nil ? bytes : SealedLayout.fileByteCount(bytes)
  }

  private func add(
    _ count: Int, from first: UInt64, _ block: Int, as index: Int, _ buffer: PageBuffer,
    to writer: SnapshotWriter
  ) throws {
    // Looking at a hole would give it memory.
    guard try memory.mayHoldData(block: block, firstPage: first, pages: count) else {
      return writer.addZeros(count)
    }
    try unsafe memory.read(block: block, firstPage: first, into: buffer.part(0, count * Page.size))
    for page in 0..<count {
      let content = buffer.span((page + 1) * Page.size).extracting((page * Page.size)...)
      if content.isAllZero {
        writer.addZeros(1)
      } else {
        try writer.add(block: index, page: first + UInt64(page), content)
      }
    }
  }
}
