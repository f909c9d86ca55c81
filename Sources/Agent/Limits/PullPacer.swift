import Base
import HostIO
import Wire

/// Keeps what a pull gives ahead within its limits: the migration's own (`--bandwidth`) and its part of the host's link.
/// What the guest waits for is counted, and waits for neither: nothing that is given ahead is worth a guest that stands.
final class PullPacer: Sendable {
  private let bucket: Guarded<TokenBucket?>
  private let share: LinkShare?

  /// - Parameters:
  ///   - bandwidth: of this migration; nil: it has no limit.
  ///   - share: nil: the host's link has none.
  init(bandwidth: ByteRate?, share: LinkShare?) {
    bucket = Guarded(bandwidth.map { TokenBucket(rate: $0, nowUs: MonotonicClock.nowUs) })
    self.share = share
  }

  /// Counts bytes that go.
  ///
  /// - Returns: how long to wait before more are given ahead, in microseconds.
  func take(_ bytes: UInt64) -> UInt64 {
    let ownUs = bucket.update { $0?.take(bytes, nowUs: MonotonicClock.nowUs) ?? 0 }
    return max(ownUs, share?.take(bytes) ?? 0)
  }
}
