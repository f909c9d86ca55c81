import Base

/// What the agent would measure of its wire: rate and cost of a page over the last second, as long as there
/// is something to send.
struct RateMeter: Sendable {
  /// How long measurements count, in milliseconds, and after which the first is believed.
  static let windowMs = 1000.0
  static let firstMs = 200.0
  /// With something to send and nothing sent for this long, there is no rate.
  static let stallMs = 2000.0

  private var measuredMs = 0.0
  private var average: Double?
  /// Of steps that left the link idle for a part: how fast the fastest of them was.
  private var fastest = 0.0
  private var pageBytes: Double?
  private var standstillMs = 0.0
  private var isBusy = false

  mutating func note(ms: Double, budget: Double, used: Double, pages: Double) {
    isBusy = used > 0
    fastest = max(fastest, used / ms * 1000)
    guard used >= budget * 0.9 else { return }
    if budget <= 0 { return standstillMs += ms }
    standstillMs = 0
    measuredMs += ms
    let weight = min(ms / Self.windowMs, 1)
    let rate = used / ms * 1000
    average = average.map { $0 + (rate - $0) * weight } ?? rate
    if pages > 0 {
      let cost = used / pages
      pageBytes = pageBytes.map { $0 + (cost - $0) * weight } ?? cost
    }
  }

  var rate: ByteRate? {
    guard standstillMs < Self.stallMs else { return nil }
    if measuredMs >= Self.firstMs {
      return average.flatMap { ByteRate(bytesPerSecond: UInt64(max($0, 0))) }
    }
    // A small guest is over before the link was full for long; what was sent went that fast at least.
    return isBusy ? nil : ByteRate(bytesPerSecond: UInt64(min(fastest, 1e18)))
  }

  var bytesPerPage: UInt64? { pageBytes.map { UInt64(max($0.rounded(), 1)) } }

  /// What the wire and the socket buffers hold: one way's worth and 5 ms.
  func inFlight(latencyMs: Double) -> UInt64 {
    guard isBusy, let average else { return 0 }
    return UInt64(max(average * (latencyMs + 5) / 1000, 0))
  }
}
