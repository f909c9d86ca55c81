import Base
import Compaction
import HostIO

/// The regions that were read so far, on disk: a builder that is killed goes on with them.
///
/// The file begins with what tells the image and its state: its path, its signature, where its blocks are. For
/// anything else that is found there the file begins anew. When reading began follows, u64, in seconds since 1970.
final class IndexJournal: Sendable {
  private let file: RecordFile
  /// Regions that an earlier builder read.
  let records: [RegionRecord]
  /// When the first of them was begun.
  let readFrom: UInt64

  /// - Parameter keepsEarlier: false: everything is to be read again.
  init(path: String, _ layer: ImageLayer, keepsEarlier: Bool) throws {
    file = try RecordFile(path: path)
    let head = Self.head(layer)
    let start = try file.read(at: 0, count: head.count + 8)
    var records: [RegionRecord] = []
    var end = UInt64(head.count + 8)
    if keepsEarlier, start.count == head.count + 8, start.starts(with: head) {
      readFrom = start[head.count...].reduce(0) { $0 << 8 | UInt64($1) }
      while true {
        let bytes = try file.read(at: end, count: RegionRecord.byteCountMax)
        guard
          let record = try? unsafe RegionRecord(
            decoding: bytes.span.bytes, imageBytes: layer.imageBytes)
        else { break }
        records.append(record)
        end += UInt64(record.byteCount)
      }
      // What is torn or damaged, and all behind it.
      try file.cut(to: end)
    } else {
      readFrom = UInt64(clamping: MonotonicClock.wallSeconds)
      try file.cut(to: 0)
      var first = head
      first.appendBE(readFrom)
      try file.append(first)
    }
    self.records = records
  }

  func append(_ record: RegionRecord) throws {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(record.byteCount)
    record.encode(into: &bytes)
    try file.append(bytes)
  }

  private static func head(_ layer: ImageLayer) -> [UInt8] {
    var head = Array("GWBUILD1".utf8)
    head += [layer.format.rawValue, 0, 0, 0]
    head.appendBE(UInt32(truncatingIfNeeded: layer.path.utf8.count))
    head.appendBE(layer.imageBytes)
    layer.signature.encode(into: &head)
    head.appendBE(layer.data.checksum)
    head += Array(layer.path.utf8)
    head.appendBE(unsafe IndexChecksum.of(head.span.bytes))
    return head
  }
}
