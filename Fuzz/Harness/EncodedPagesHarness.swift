import Base
import Compaction
import Wire

/// What must hold for an `encodedPages` frame whatever its bytes are: what was decoded is within the limits
/// of a batch and encodes to the bytes it came from; unpacking writes the pages that the header names, all
/// of them or none, and nothing beyond.
public enum EncodedPagesHarness {
  private static let guardBytes = 64
  private static let unpacker = BatchUnpacker()

  /// What broke, or nil.
  public static func run(_ data: [UInt8]) -> String? {
    var cursor = ByteCursor(data.span.bytes)
    guard let header = try? EncodedHeader(decoding: &cursor) else { return nil }
    let start = cursor.position
    guard header.kinds.count <= BatchLimits.rawPagesMax,
      header.packedByteCount <= header.unpackedByteCount,
      header.bodyByteCount <= EncodedHeader.bodyBytesMax, header.byteCount == start
    else { return "over its limits: \(header)" }
    guard
      (try? EncodedHeader.variableByteCount(fixed: data.span.bytes))
        == start - EncodedHeader.fixedByteCount
    else { return "the fixed part says another length" }
    var encoded: [UInt8] = []
    header.encode(into: &encoded)
    guard encoded == Array(data[..<start]) else { return "encoded again, other bytes" }
    return unpack(header, data)
  }

  private static func unpack(_ header: EncodedHeader, _ data: [UInt8]) -> String? {
    let byteCount = header.kinds.count * Page.size
    var pages = [UInt8](repeating: 0x5A, count: byteCount + guardBytes)
    let body = data.span.bytes.extracting(header.byteCount...)
    var references: [(place: Int, reference: PageReference)]?
    pages.withUnsafeMutableBytes { target in
      references = try? unpacker.unpack(
        header, body, into: UnsafeMutableRawBufferPointer(rebasing: target[..<byteCount]))
    }
    if let references {
      let places = header.kinds.indices.filter { header.kinds[$0].isReference }
      guard references.map(\.place) == places else { return "other references than named" }
    }
    return pages[byteCount...].allSatisfy { $0 == 0x5A } ? nil : "wrote beyond its pages"
  }
}
