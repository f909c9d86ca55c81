import Base
import Compaction
import HostIO

/// Reads an image region by region on several threads, and computes who its blocks are.
final class RegionReader: Sendable {
  /// Read by one system call, at most.
  private static let chunkBytes = 1 << 20

  private struct State {
    var next = 0
    var readBytes: UInt64 = 0
    var failure: (any Error)?
  }

  private let layer: ImageLayer
  private let known: Set<UInt32>
  private let state = Guarded(State())
  private let empty: ImageDigest
  /// Bytes to be read altogether.
  let totalBytes: UInt64

  /// - Parameter known: regions that need not be read.
  init(_ layer: ImageLayer, known: Set<UInt32>) throws {
    (self.layer, self.known) = (layer, known)
    empty = try Self.digest(
      PageBuffer.zeroed(byteCount: Self.identitiesBytes), blocks: ImageLimits.regionBlocks)
    let skipped = known.reduce(UInt64(0)) { sum, region in
      sum + layer.data.pieces(of: layer.blocks(of: Int(region))).reduce(0) { $0 + UInt64($1.count) }
    }
    totalBytes = (layer.data.blockCount - skipped) << UInt64(Page.shift)
  }

  private static let identitiesBytes = ImageLimits.regionBlocks * PageIdentity.byteCount

  /// Bytes that were read so far.
  var readBytes: UInt64 { state.read { $0.readBytes } }

  /// Reads everything that is not known. Blocks.
  ///
  /// - Parameter each: called with each region, in no order, by one thread at a time.
  func run(threads: Int, each: @escaping @Sendable (RegionRecord) throws -> Void) throws {
    let order = Guarded(false)
    let workers = (0..<max(threads, 1)).map { number in
      WorkerThread("gw-index-\(number)") { [self] in
        do {
          let buffer = PageBuffer(byteCount: Self.chunkBytes)
          let identities = PageBuffer(byteCount: Self.identitiesBytes)
          while let region = takeRegion() {
            let record = try read(region, buffer, identities)
            try order.update { _ in try each(record) }
          }
        } catch {
          state.update { $0.failure = $0.failure ?? error }
        }
      }
    }
    for worker in workers { worker.join() }
    if let failure = state.read({ $0.failure }) { throw failure }
  }

  private func takeRegion() -> Int? {
    let count = ImageLimits.regions(of: layer.imageBytes)
    return state.update { state in
      while state.next < count, known.contains(UInt32(state.next)) { state.next += 1 }
      guard state.next < count, state.failure == nil else { return nil }
      state.next += 1
      return state.next - 1
    }
  }

  private func read(
    _ region: Int, _ buffer: PageBuffer, _ identities: PageBuffer
  ) throws -> RegionRecord {
    let blocks = layer.blocks(of: region)
    let count = Int(blocks.upperBound - blocks.lowerBound)
    let pieces = layer.data.pieces(of: blocks)
    if pieces.isEmpty, count == ImageLimits.regionBlocks {
      return RegionRecord(region: UInt32(region), digest: empty, blocks: [])
    }
    // SAFETY: `part` checks its bounds; the buffer is this thread's own.
    unsafe identities.part(0, identities.byteCount).initializeMemory(as: UInt8.self, repeating: 0)
    var found: [IndexedBlock] = []
    for piece in pieces {
      var done = 0
      while done < Int(piece.count) {
        let wanted = min((Int(piece.count) - done) << Page.shift, Self.chunkBytes)
        let offset = piece.offset + UInt64(done) << UInt64(Page.shift)
        let bytes = try unsafe layer.file.read(at: offset, into: buffer.part(0, wanted))
        for index in 0..<(bytes >> Page.shift) {
          let block = UInt64(piece.first) + UInt64(done + index)
          let place = Int(block - blocks.lowerBound) * PageIdentity.byteCount
          note(buffer, index, block, identities, place, &found)
        }
        done += wanted >> Page.shift
        state.update { $0.readBytes += UInt64(wanted) }
        // The file is shorter than its map says: what is not there holds nothing.
        if bytes < wanted { break }
      }
    }
    return RegionRecord(
      region: UInt32(region), digest: try Self.digest(identities, blocks: count), blocks: found)
  }

  /// Computes who one block is, unless it is zero.
  private func note(
    _ buffer: PageBuffer, _ index: Int, _ block: UInt64, _ identities: PageBuffer, _ place: Int,
    _ found: inout [IndexedBlock]
  ) {
    let content = buffer.span((index + 1) << Page.shift).extracting((index << Page.shift)...)
    guard !content.isAllZero else { return }
    // SAFETY: `part` checks its bounds; the buffer is this thread's own.
    let identity = unsafe identities.part(place, PageIdentity.byteCount)
    unsafe PageIdentity.write(of: content, to: identity)
    found.append(
      IndexedBlock(
        tag: IndexedBlock.tag(of: content),
        block: UInt32(truncatingIfNeeded: block),  // of an image within its limit
        identity: unsafe UInt64(bigEndian: identity.loadUnaligned(as: UInt64.self))))
  }

  private static func digest(_ identities: PageBuffer, blocks: Int) throws -> ImageDigest {
    let bytes = PageIdentity.bytes(of: identities.span(blocks * PageIdentity.byteCount))
    return try unsafe ImageDigest(bytes.span.bytes)
  }
}

extension ImageLayer {
  /// Blocks of a region.
  func blocks(of region: Int) -> Range<UInt64> {
    let first = UInt64(region) * UInt64(ImageLimits.regionBlocks)
    return
      first..<min(
        first + UInt64(ImageLimits.regionBlocks), ImageLimits.blocks(of: imageBytes))
  }
}
