import Base

/// Bounds the pages of zeros that are on their way: picked, and not yet taken by the destination's QEMU.
///
/// On the wire they are next to nothing, so a window of bytes lets all of a guest's through at once. But QEMU looks at
/// each of them, and until it has, it doesn't come to what stands behind: the guest that was stopped meanwhile waits
/// for that. So their number follows the pace at which the destination takes them.
public struct ZeroWindow: Sendable {
  /// Pages that may be on their way before anything is measured, and at least: 16 MiB of the guest's memory.
  public static let pagesMin: UInt64 = 4096

  /// Pages that may be on their way, and that are.
  public private(set) var limit = Self.pagesMin
  public private(set) var pages: UInt64 = 0
  /// Pages a second. The best counts: the others were of pages with contents that stood before them.
  private var rates = RecentRates()
  private var sampled: UInt64 = 0
  /// Pages with contents that the destination took in the sample.
  private var others: UInt64 = 0
  /// Zeros that a sample must be of to say how fast they are taken.
  private static let tellingPages: UInt64 = 512
  /// Whether a sample said how fast the destination is; others only say that it is no slower.
  private var isKnown = false
  /// Whether somebody waited for room at any time of the sample: only then it says how fast the destination is.
  private var sampleWasLimited = false

  public init() {}

  /// Pages a second that the destination takes at best; nil: not known.
  public var rate: UInt64? { rates.best }

  /// Milliseconds until the destination has taken those on their way; 0 before anything is measured.
  public var applyingMs: UInt64 {
    guard isKnown, let rate else { return 0 }
    let (product, overflow) = pages.multipliedReportingOverflow(by: 1000)
    return overflow ? .max : product / max(rate, 1)
  }

  /// Takes room for so many pages; false: there is none. Where nothing is on its way there always is.
  public mutating func reserve(_ count: UInt64) -> Bool {
    guard pages == 0 || pages + count <= limit else {
      sampleWasLimited = true
      return false
    }
    pages += count
    return true
  }

  /// - Parameter others: pages with contents that came with them.
  mutating func applied(_ count: UInt64, others: UInt64) {
    pages -= min(count, pages)
    sampled += count
    self.others += others
  }

  /// A sample of so many milliseconds (at least 1) is over.
  ///
  /// - Parameter spanMs: for how long the destination is to have something to take.
  mutating func sample(ms: UInt64, spanMs: UInt64) {
    defer { (sampled, others, sampleWasLimited) = (0, 0, false) }
    let measured = sampled * 1000 / ms
    // A few zeros among pages with contents say how few they are.
    let isTelling = sampleWasLimited && sampled > others && sampled >= Self.tellingPages
    isKnown = isKnown || isTelling
    if isTelling || measured > rate ?? 0 { rates.note(measured) }
    guard let rate else { return }
    let (product, overflow) = rate.multipliedReportingOverflow(by: spanMs)
    limit = max(overflow ? .max : product / 1000 / 4 * 5, Self.pagesMin)
  }
}
