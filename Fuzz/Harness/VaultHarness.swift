import Base
import Compaction
import Wire

/// What must hold for the parts of a snapshot's file and for the frames that tell of one, whatever the bytes are:
/// what was decoded is within the limits and encodes to the bytes it came from. The first byte chooses the part, with 4 in it
/// the start of a sealed file; with 8 in it checksums are mended first, so that what is behind them is looked at.
public enum VaultHarness {
  /// What broke, or nil.
  public static func run(_ data: [UInt8]) -> String? {
    guard let first = data.first else { return nil }
    var bytes = Array(data.dropFirst())
    let mends = first & 8 != 0
    if first & 4 != 0 {
      if mends { mend(&bytes, count: SealedHead.byteCount) }
      return sealed(bytes)
    }
    switch first % 4 {
    case 0:
      if mends { mend(&bytes, count: bytes.count) }
      return head(bytes)
    case 1:
      if mends { mend(&bytes, count: VaultSegment.headByteCount) }
      return segment(bytes)
    case 2:
      if mends { mend(&bytes, count: VaultEnd.byteCount) }
      return end(bytes)
    default: return filters(bytes)
    }
  }

  private static func sealed(_ bytes: [UInt8]) -> String? {
    guard let head = try? SealedHead(decoding: bytes.span.bytes) else { return nil }
    var again: [UInt8] = []
    head.encode(into: &again)
    guard again == Array(bytes[..<SealedHead.byteCount]), SealedHead.begins(bytes.span.bytes) else {
      return "encoded again, other bytes"
    }
    // What is behind the head as a size: a file's chunks are all of it, one after the other.
    let size = bytes.dropFirst(SealedHead.byteCount).prefix(3).reduce(0) { $0 << 8 | UInt64($1) }
    guard let layout = SealedLayout(fileByteCount: size) else { return nil }
    guard SealedLayout.fileByteCount(layout.byteCount) == size else { return "of another size" }
    var end = UInt64(SealedHead.byteCount)
    for chunk in layout.chunks(of: 0..<layout.byteCount) {
      let stored = layout.stored(chunk)
      guard stored.lowerBound == end, stored.count > SealedHead.tagByteCount else {
        return "chunk \(chunk) is not where the one before it ends"
      }
      end = stored.upperBound
    }
    return end == size ? nil : "its chunks are not all of it"
  }

  /// Puts the checksum of what is before them into the last 8 of the first `count` bytes.
  private static func mend(_ bytes: inout [UInt8], count: Int) {
    guard bytes.count >= count, count >= 8 else { return }
    var checksum: [UInt8] = []
    checksum.appendBE(FrameChecksum.of(bytes.span.bytes.extracting(..<(count - 8))))
    bytes.replaceSubrange(count - 8..<count, with: checksum)
  }

  private static func head(_ bytes: [UInt8]) -> String? {
    guard let head = try? VaultHead(decoding: bytes.span.bytes) else { return nil }
    guard head.blocks.count <= VaultLimits.blocksMax, head.pageCount <= VaultLimits.pagesMax,
      bytes.count <= VaultHead.byteCountMax
    else { return "over its limits: \(head)" }
    var again: [UInt8] = []
    head.encode(into: &again)
    return again == bytes ? nil : "encoded again, other bytes"
  }

  private static func segment(_ bytes: [UInt8]) -> String? {
    var cursor = ByteCursor(bytes.span.bytes)
    guard let segment = try? VaultSegment(decoding: &cursor) else { return nil }
    guard (1...VaultLimits.segmentPages).contains(segment.pageCount) else {
      return "over its limits"
    }
    var again: [UInt8] = []
    segment.encode(into: &again)
    guard again == Array(bytes[..<VaultSegment.headByteCount]) else {
      return "encoded again, other bytes"
    }
    let count = segment.pageCount * VaultSegment.lookupByteCount
    guard let rest = try? cursor.take(count),
      let head = VaultHead(
        id: VaultID(high: 1, low: 2), takenAt: 3, seed: 4, guest: "g", uuid: "u",
        blocks: [.init(name: "a", pages: 1000), .init(name: "b", pages: 5)])
    else { return nil }
    // With a checksum that fits, so that the keys are looked at.
    let sound = VaultSegment(
      pageCount: segment.pageCount, firstIndex: 0, lookupChecksum: FrameChecksum.of(rest),
      contentChecksum: 0)
    guard let found = try? sound.lookups(rest, in: head, after: nil) else { return nil }
    let areSound =
      zip(found, found.dropFirst()).allSatisfy { $0.key < $1.key }
      && found.allSatisfy {
        $0.key.block < 2 && $0.key.page < head.blocks[$0.key.block].pages
      }
    return areSound ? nil : "keys that are no pages: \(found)"
  }

  private static func end(_ bytes: [UInt8]) -> String? {
    guard let end = try? VaultEnd(decoding: bytes.span.bytes) else { return nil }
    var again: [UInt8] = []
    end.encode(into: &again)
    guard again == Array(bytes[..<VaultEnd.byteCount]) else { return "encoded again, other bytes" }
    guard
      let head = VaultHead(
        id: end.id, takenAt: 0, seed: 0, guest: "", uuid: "",
        blocks: [.init(name: "a", pages: VaultLimits.pagesMax)])
    else { return "an id that no head may have" }
    for size in [0, 4096, UInt64.max] {
      guard
        let layout = try? VaultLayout(
          head: head, headByteCount: 100, end: end, fileByteCount: size)
      else { continue }
      guard layout.byteCount == size, layout.storedPages <= VaultLimits.pagesMax else {
        return "a layout of another size"
      }
    }
    return nil
  }

  private static func filters(_ bytes: [UInt8]) -> String? {
    var cursor = ByteCursor(bytes.span.bytes)
    guard let frame = try? SnapshotFilters(decoding: &cursor) else { return nil }
    guard frame.filters.count <= SnapshotFilters.pagesMax else { return "over its limits" }
    var again: [UInt8] = []
    frame.encode(into: &again)
    return again == bytes ? nil : "encoded again, other bytes"
  }
}
