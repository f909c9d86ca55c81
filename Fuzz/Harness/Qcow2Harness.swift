import Base
import Compaction

/// What must hold for a qcow2 image whatever its bytes are: it is refused, or its map lies within the image and the
/// file, and names no more blocks than the file has.
public enum Qcow2Harness {
  /// What broke, or nil. The file is `data`, with zeros up to 1 MiB.
  public static func run(_ data: [UInt8]) -> String? {
    guard let header = try? Qcow2Header(decoding: data.span.bytes) else { return nil }
    // Larger tables only take longer.
    guard header.l1Count <= 256, header.clusterBits <= 16 else { return nil }
    let fileBytes = max(UInt64(data.count), 1 << 20)
    var map = Qcow2Map(header, fileBytes: fileBytes)
    let first = slice(data, map.l1.offset, map.l1.byteCount)
    guard let tables = try? map.tables(first.span.bytes) else { return nil }
    for table in tables {
      let second = slice(data, table.offset, header.clusterBytes)
      if (try? map.append(table: table.number, second.span.bytes)) == nil { break }
    }
    let result = map.map
    if let broken = BlockMapCheck.run(result) { return broken }
    guard result.blockCount <= fileBytes >> 12 + UInt64(header.clusterBytes >> 12) else {
      return "more blocks than the file has"
    }
    if let last = result.extents.last, last.end > ImageLimits.blocks(of: header.imageBytes) {
      return "blocks beyond the image"
    }
    for extent in result.extents
    where extent.offset + UInt64(extent.count) << 12 > fileBytes + UInt64(header.clusterBytes) {
      return "blocks beyond the file"
    }
    return nil
  }

  private static func slice(_ data: [UInt8], _ offset: UInt64, _ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    guard offset < UInt64(data.count) else { return bytes }
    let part = data[Int(offset)..<min(data.count, Int(offset) + count)]
    bytes.replaceSubrange(0..<part.count, with: part)
    return bytes
  }
}
