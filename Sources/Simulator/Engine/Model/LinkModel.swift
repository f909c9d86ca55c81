public import Base

/// The network between the two hosts.
public struct LinkModel: Sendable, Equatable {
  /// Traffic of others that comes and goes.
  public struct Competing: Sendable, Equatable {
    /// Share of the link it takes while it is there, `0...0.99`, and how it comes and goes.
    public var share: Double
    public var onMs, offMs: UInt64

    /// `share` is brought into its range.
    public init(share: Double, onMs: UInt64, offMs: UInt64) {
      (self.share, self.onMs, self.offMs) = (min(max(share, 0), 0.99), onMs, offMs)
    }
  }

  /// What the link carries, in bytes per second, at least 1.
  public var bytesPerSecond: Double
  /// One way, in milliseconds.
  public var latencyMs: Double
  /// Relative deviation of the rate from one tick to the next.
  public var jitter: Double
  /// Share of packets lost, `0...0.5`.
  public var loss: Double
  public var lanes: UInt64
  public var competing: Competing?

  /// Values out of range are brought into it: `jitter` is 0.5 at most, and there is one lane at
  /// least.
  public init(
    bytesPerSecond: Double, latencyMs: Double = 0.2, jitter: Double = 0.02, loss: Double = 0,
    lanes: UInt64 = 4, competing: Competing? = nil
  ) {
    self.bytesPerSecond = max(bytesPerSecond, 1)
    (self.latencyMs, self.jitter) = (max(latencyMs, 0), min(max(jitter, 0), 0.5))
    (self.loss, self.lanes, self.competing) = (min(max(loss, 0), 0.5), max(lanes, 1), competing)
  }

  public init(rate: ByteRate, latencyMs: Double = 0.2) {
    self.init(bytesPerSecond: Double(rate.bytesPerSecond), latencyMs: latencyMs)
  }

  /// What arrives without jitter and competition, in bytes per second: the rate less what is lost, and
  /// no more than the lanes' windows allow (Mathis et al. 1997: 1.22 × segment / (round trip × √loss)).
  public var goodput: Double {
    let rate = bytesPerSecond * (1 - loss)
    guard loss > 0, latencyMs > 0 else { return rate }
    let lane = 1.22 * 1448 / (2 * latencyMs / 1000 * loss.squareRoot())
    return min(rate, Double(lanes) * lane)
  }

  /// Share of the link that is left at an instant; `phaseMs` shifts the others' traffic.
  func freeShare(atMs ms: Double, phaseMs: Double) -> Double {
    guard let competing, competing.onMs + competing.offMs > 0 else { return 1 }
    let cycle = Double(competing.onMs + competing.offMs)
    let offset = (ms + phaseMs).truncatingRemainder(dividingBy: cycle)
    return offset < Double(competing.onMs) ? 1 - competing.share : 1
  }
}
