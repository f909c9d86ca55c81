import Base
import Strategy

/// What owed pages will cost on the wire, from what those cost that went. Pure.
///
/// Pages that the guest has written are reckoned apart from those of the scan: the destination may be able to make
/// nearly all of a guest's page cache itself and nothing of what is written now, and a page that was there before
/// may go as its difference. Pages of zeros cost next to nothing and are in neither.
struct PageCosts: Sendable, Equatable {
  /// Pages that make a cost known.
  static let windowPages: UInt64 = 1024
  /// With how many pages, as dear as those that were not named, the mean of few dirtied ones is taken.
  static let priorPages: UInt64 = 256

  private struct Count: Sendable, Equatable {
    var bytes: UInt64 = 0
    var pages: UInt64 = 0

    /// Bytes a page since `earlier`; nil before a window's pages went.
    func perPage(since earlier: Count) -> UInt64? {
      guard pages >= earlier.pages.addingSaturating(windowPages) else { return nil }
      return max(bytes.minusFloored(earlier.bytes) / (pages - earlier.pages), 1)
    }
  }

  /// The last window that is complete.
  private struct Window: Sendable, Equatable {
    private var end = Count()
    private(set) var perPage: UInt64?

    mutating func note(_ count: Count) {
      guard let cost = count.perPage(since: end) else { return }
      (end, perPage) = (count, cost)
    }
  }

  private var all = Window()
  private var written = Window()
  private var dirtied = Window()
  /// Where the count of dirtied pages stood when the scan was over; nil: it isn't.
  private var scanEnd: Count?

  /// Bytes of any page, zeros among them.
  var perPage: UInt64 { all.perPage ?? UInt64(Page.size) }
  /// Bytes of a page with contents.
  private(set) var perWrittenPage = UInt64(Page.size)
  /// Bytes of a page with contents that the guest has written since the start.
  private(set) var perDirtiedPage = UInt64(Page.size)

  /// - Parameter isScan: pages are left that were never sent.
  mutating func note(_ counters: SendQueue.Counters, isScan: Bool) {
    let sent = Count(bytes: counters.wireBytes, pages: counters.pages)
    let withContents = Count(bytes: sent.bytes, pages: counters.pages - counters.zeroPages)
    let again = Count(bytes: counters.dirtiedBytes, pages: counters.dirtiedPages)
    all.note(sent)
    written.note(withContents)
    dirtied.note(again)
    // The last pages may have been small (kernel text, pages of one word): what is owed costs no less than the mean.
    if let last = written.perPage { perWrittenPage = max(last, sent.bytes / withContents.pages) }
    scanEnd = isScan ? nil : scanEnd ?? again
    // What was there before the scan's end may go as its difference: from then on it stands for itself.
    let mean = scanEnd.flatMap { again.perPage(since: $0) } ?? mean(of: again, counters)
    perDirtiedPage = max(dirtied.perPage ?? 0, mean, 1)
  }

  /// The mean of dirtied pages; of few, with what pages cost that the destination had nothing of.
  private func mean(of again: Count, _ counters: SendQueue.Counters) -> UInt64 {
    let pages = counters.pages - counters.zeroPages - counters.namedPages
    let page = UInt64(Page.size)
    let prior = pages >= Self.priorPages ? min(counters.wireBytes / pages, page) : page
    return (again.bytes + prior * Self.priorPages) / (again.pages + Self.priorPages)
  }
}
