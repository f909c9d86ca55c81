public import Base
import CXXHash

/// 128 bits that tell pages apart quickly (XXH3). Not collision-resistant: it finds accidents, such
/// as a lost write, and filters candidates; it is never proof against an attacker.
public struct PageFingerprint: Hashable, Sendable {
  public static let byteCount = 16
  public let high, low: UInt64

  /// Of bytes of any length; the same on every host.
  public init(of bytes: RawSpan) {
    // SAFETY: the pointer does not leave the closure.
    let hash = unsafe bytes.withUnsafeBytes { raw in
      unsafe XXH3_128bits(raw.baseAddress, raw.count)
    }
    (high, low) = (hash.high64, hash.low64)
  }

  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    high = try cursor.readBE()
    low = try cursor.readBE()
  }

  public func encode(into out: inout [UInt8]) {
    out.appendBE(high)
    out.appendBE(low)
  }
}
