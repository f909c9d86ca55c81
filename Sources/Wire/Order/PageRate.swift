import Base

/// How fast the destination takes pages with contents, whatever they are packed to: the best of the last samples that
/// had enough to take.
///
/// QEMU writes every byte of a page. What waits for it is short on the wire where pages pack well, and the guest that is
/// stopped waits for it all the same.
struct PageRate: Sendable {
  /// Bytes of pages a second.
  private var rates = RecentRates()

  /// - Parameters:
  ///   - bytesPerSecond: of pages that the destination took in a sample.
  ///   - isTelling: it had enough to take all the time.
  mutating func note(_ bytesPerSecond: UInt64, isTelling: Bool) {
    guard bytesPerSecond > 0, isTelling || bytesPerSecond > rates.best ?? 0 else { return }
    rates.note(bytesPerSecond)
  }

  /// Milliseconds for so many bytes of pages; 0 before anything is known.
  func milliseconds(for bytes: UInt64) -> UInt64 {
    guard let rate = rates.best else { return 0 }
    let (product, overflow) = bytes.multipliedReportingOverflow(by: 1000)
    return overflow ? .max : product / rate
  }
}
