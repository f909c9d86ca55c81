import Base
import DiskStrategy

/// What must hold for a manifest whatever its bytes are: what was read says the same when it is written again, and all
/// its parts are within the disk.
///
/// The first byte says what the rest is: 0 a manifest, anything else one whose checksum is mended.
public enum DiskManifestHarness {
  /// What broke, or nil.
  public static func run(_ data: [UInt8]) -> String? {
    guard let mode = data.first else { return nil }
    var bytes = Array(data.dropFirst())
    if mode > 0 { bytes.appendBE(DiskManifest.checksum(bytes)) }
    guard let manifest = try? DiskManifest(decoding: bytes) else { return nil }
    guard manifest.encoded == bytes else { return "encoded again, other bytes" }
    var end: UInt64 = 0
    for part in 0..<manifest.partCount {
      let range = manifest.range(of: part)
      guard range.lowerBound == end, !range.isEmpty,
        manifest.hash(of: part).count == DiskManifest.hashByteCount
      else { return "parts that don't follow one another" }
      end = range.upperBound
    }
    return end == manifest.byteCount ? nil : "parts that are not the disk"
  }
}
