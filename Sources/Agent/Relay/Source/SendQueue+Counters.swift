import Base
import Wire

extension SendQueue {
  /// Page bytes that make known what they are packed into.
  private static let packingKnownBytes: UInt64 = 4 << 20

  struct Counters: Sendable {
    var zeroPages: UInt64 = 0
    var rawPages: UInt64 = 0
    var uniformPages: UInt64 = 0
    var compressedPages: UInt64 = 0
    var deltaPages: UInt64 = 0
    var duplicatePages: UInt64 = 0
    var heldPages: UInt64 = 0
    var diskPages: UInt64 = 0
    var gangPages: UInt64 = 0
    var vaultPages: UInt64 = 0
    /// Bytes of batches, frame headers included.
    var wireBytes: UInt64 = 0
    /// Of these, in batches of pages that were dirtied since the start; their pages with contents.
    var dirtiedBytes: UInt64 = 0
    var dirtiedPages: UInt64 = 0

    /// What pages with contents are made into: their bytes, and those on the wire; 1 to 1 until that is known.
    var packing: (pageBytes: UInt64, wireBytes: UInt64) {
      let pageBytes = (pages - zeroPages) * UInt64(Page.size)
      guard pageBytes >= SendQueue.packingKnownBytes, wireBytes > 0 else { return (1, 1) }
      return (pageBytes, wireBytes)
    }

    var pages: UInt64 {
      zeroPages + rawPages + uniformPages + compressedPages + deltaPages + namedPages
    }

    /// Pages that the destination makes of what it has.
    var namedPages: UInt64 { duplicatePages + heldPages + diskPages + gangPages + vaultPages }
  }

  /// What is on its way at one time, and what went so far.
  struct Flow: Sendable {
    let rate: ByteRate?
    /// Bytes sent and not applied; batches that are not sent, and their pages with contents in bytes.
    let inFlight: UInt64
    let queued: Int
    let queuedBytes: UInt64
    /// What the destination needs for the pages that are on their way, however small they are packed, in milliseconds.
    let applyingMs: UInt64
    let counters: Counters
  }
}

extension SendQueue.Counters {
  /// Counts a batch that goes to a lane.
  mutating func note(_ batch: PageBatch) {
    wireBytes += UInt64(batch.wireByteCount)
    if !batch.isScan {
      dirtiedBytes += UInt64(batch.wireByteCount)
      dirtiedPages += UInt64(batch.header.rawPageCount)
    }
    zeroPages += UInt64(batch.header.zeroPageCount)
    guard let kinds = batch.encoded?.header.kinds else {
      return rawPages += UInt64(batch.header.rawPageCount)
    }
    for kind in kinds {
      switch kind {
      case .uniform: uniformPages += 1
      case .compressed: compressedPages += 1
      case .delta: deltaPages += 1
      case .duplicate: duplicatePages += 1
      case .held: heldPages += 1
      case .disk: diskPages += 1
      case .gang: gangPages += 1
      case .vault: vaultPages += 1
      case .raw: rawPages += 1
      }
    }
  }
}
