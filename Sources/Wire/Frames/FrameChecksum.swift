import Base
import CXXHash

/// XXH3 over a frame's payload: finds what a network, a cable or a broken card changed on the way.
///
/// Against somebody who changes bytes on purpose only encryption helps.
public enum FrameChecksum {
  /// Of `head` and `body` one after the other: where a payload is cut makes no difference.
  public static func of(_ head: RawSpan, _ body: RawSpan = RawSpan()) -> UInt64 {
    // SAFETY: no pointer leaves its closure; the state is freed after its last use.
    guard !body.isEmpty, let state = unsafe XXH3_createState() else {
      return unsafe head.withUnsafeBytes { unsafe XXH3_64bits($0.baseAddress, $0.count) }
    }
    defer { unsafe XXH3_freeState(state) }
    unsafe XXH3_64bits_reset(state)
    _ = unsafe head.withUnsafeBytes { unsafe XXH3_64bits_update(state, $0.baseAddress, $0.count) }
    _ = unsafe body.withUnsafeBytes { unsafe XXH3_64bits_update(state, $0.baseAddress, $0.count) }
    return unsafe XXH3_64bits_digest(state)
  }
}
