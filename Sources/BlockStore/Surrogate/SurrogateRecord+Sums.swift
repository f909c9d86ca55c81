import CXXHash
import DiskStrategy

/// What a record's data are held against when they are read.
extension SurrogateRecord {
  /// XXH3 over data: finds what was torn.
  static func sum(of bytes: RawSpan) -> UInt64 {
    // SAFETY: the pointer does not leave the closure.
    unsafe bytes.withUnsafeBytes { raw in unsafe XXH3_64bits(raw.baseAddress, raw.count) }
  }

  /// The same for each block: finds what a server has lost.
  ///
  /// - Parameter bytes: whole blocks.
  static func blockSums(of bytes: RawSpan) -> [UInt64] {
    let count = SurrogateLink.unitByteCount
    var sums: [UInt64] = []
    for start in stride(from: 0, to: bytes.byteCount, by: count) {
      sums.append(sum(of: bytes.extracting(start..<(start + count))))
    }
    return sums
  }
}
