import Base

/// An image's regions in at most `countMax` parts of equal length, a number each: what two hosts compare to know
/// how far they hold the same, without ever sending an index.
///
/// The numbers are a fast hash of the regions' SHA-256. Who finds other regions with the same number gains pages
/// that are asked for: what a page is made of is proven by its own SHA-256.
public struct ImageParts: Sendable, Hashable {
  /// 16 KiB of an image.
  public static let countMax = 2048

  /// Regions of a part: 2 to the power of this.
  public let shift: Int
  public let numbers: [UInt64]

  /// Of all regions of an image, in order; two hosts get comparable parts only for equally many.
  public init(_ regions: [RegionSummary]) {
    var shift = 0
    while (regions.count + (1 << shift) - 1) >> shift > Self.countMax { shift += 1 }
    var numbers: [UInt64] = []
    for start in stride(from: 0, to: regions.count, by: 1 << shift) {
      var bytes: [UInt8] = []
      for region in regions[start..<min(start + 1 << shift, regions.count)] {
        region.digest.encode(into: &bytes)
      }
      numbers.append(unsafe IndexChecksum.of(bytes.span.bytes))
    }
    (self.shift, self.numbers) = (shift, numbers)
  }

  /// Reads what another agent says; nil when no index has such parts.
  public init?(regionCount: Int, bytes: [UInt8]) {
    guard (0...ImageLimits.regions(of: ImageLimits.imageBytesMax)).contains(regionCount) else {
      return nil
    }
    var shift = 0
    while (regionCount + (1 << shift) - 1) >> shift > Self.countMax { shift += 1 }
    let count = (regionCount + (1 << shift) - 1) >> shift
    guard bytes.count == count * 8 else { return nil }
    var numbers: [UInt64] = []
    for start in stride(from: 0, to: bytes.count, by: 8) {
      numbers.append(bytes[start..<start + 8].reduce(0) { $0 << 8 | UInt64($1) })
    }
    (self.shift, self.numbers) = (shift, numbers)
  }

  /// The numbers, 8 bytes each, big-endian: what another agent's `init(regionCount:bytes:)` reads.
  public var bytes: [UInt8] {
    var bytes: [UInt8] = []
    for number in numbers { bytes.appendBE(number) }
    return bytes
  }

  /// Which parts are the same in the other one: a bit each, the first one the lowest of the first byte.
  public func same(as other: ImageParts) -> [UInt8] {
    var bits = [UInt8](repeating: 0, count: (numbers.count + 7) / 8)
    guard other.shift == shift else { return bits }
    for (index, pair) in zip(numbers, other.numbers).enumerated() where pair.0 == pair.1 {
      bits[index / 8] |= 1 << UInt8(index % 8)
    }
    return bits
  }

  /// Whether the part that the block is in has its bit set.
  public func has(_ block: UInt32, in bits: [UInt8]) -> Bool {
    let part = (Int(block) / ImageLimits.regionBlocks) >> shift
    return part / 8 < bits.count && bits[part / 8] & 1 << UInt8(part % 8) != 0
  }
}
