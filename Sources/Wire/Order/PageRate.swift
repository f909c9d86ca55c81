import Base

/// How fast the destination takes pages with contents, whatever they are packed to: the best of the last samples that
/// had enough to take.
///
/// QEMU writes every byte of a page. What waits for it is short on the wire where pages pack well, and the guest that is
/// stopped waits for it all the same.
struct PageRate: Sendable {
  /// Samples whose best counts.
  private static let samplesMax = 8

  /// Bytes of pages a second, of the last samples, as a ring.
  private var rates: [UInt64] = []
  private var next = 0

  /// - Parameters:
  ///   - bytesPerSecond: of pages that the destination took in a sample.
  ///   - isTelling: it had enough to take all the time.
  mutating func note(_ bytesPerSecond: UInt64, isTelling: Bool) {
    guard bytesPerSecond > 0, isTelling || bytesPerSecond > rates.max() ?? 0 else { return }
    if rates.count < Self.samplesMax { return rates.append(bytesPerSecond) }
    rates[next] = bytesPerSecond
    next = (next + 1) % Self.samplesMax
  }

  /// Milliseconds for so many bytes of pages; 0 before anything is known.
  func milliseconds(for bytes: UInt64) -> UInt64 {
    guard let rate = rates.max() else { return 0 }
    let (product, overflow) = bytes.multipliedReportingOverflow(by: 1000)
    return overflow ? .max : product / rate
  }
}
