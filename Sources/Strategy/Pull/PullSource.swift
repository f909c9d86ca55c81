public import Base

/// The source's part of a pull: what is still to be sent, and in which order. The guest's memory is
/// frozen here and stays readable until the destination has said that it has everything. Pure.
///
/// First what a processor of the guest waits for, then what the destination asks for ahead, then the
/// rest in the order of memory. Each page is handed out once, unless a connection lost it (`lost`).
///
/// Memory: a bit per page, and the requests.
public struct PullSource: Sendable {
  public struct Counters: Sendable, Hashable {
    public var urgentPages = 0
    public var aheadPages = 0
    public var sequencePages = 0
    /// Pages asked for that were on their way already.
    public var requestedLate = 0
    public var lostPages = 0
  }

  /// Urgent requests that may wait. A guest's processors and QEMU's own threads cause one each.
  public static let urgentRunsMax = 65_536
  /// Other requests that are kept; beyond that the oldest is forgotten: its pages have their turn anyway.
  public static let aheadRunsMax = 1024

  public let numbering: PageNumbering
  public private(set) var counters = Counters()
  private var unsent: PageBitmap
  private var urgent = RunQueue()
  private var ahead = RunQueue()
  private var sequenceNext = 0

  /// - Parameter owed: what the destination lacks or has old copies of, by number.
  public init(numbering: PageNumbering, owed: PageBitmap) {
    precondition(owed.count == numbering.limit)
    (self.numbering, unsent) = (numbering, owed)
  }

  public var unsentCount: Int { unsent.population }

  /// The destination asks for pages.
  public mutating func request(_ run: PullRun) throws(PullRefusal) {
    guard numbering.contains(run.pages.lowerBound), numbering.contains(run.pages.upperBound - 1),
      numbering.block(of: run.pages.lowerBound) == numbering.block(of: run.pages.upperBound - 1)
    else { throw .noSuchPage(run.pages.lowerBound) }
    if run.isUrgent {
      guard urgent.count < Self.urgentRunsMax else {
        throw .tooManyRequests(limit: Self.urgentRunsMax)
      }
      urgent.append(run.pages)
    } else {
      if ahead.count >= Self.aheadRunsMax { ahead.dropFirst() }
      ahead.append(run.pages)
    }
  }

  /// Whether `next` would give pages that somebody waits for. Requests for what is sent already are
  /// forgotten on the way.
  public mutating func hasUrgent() -> Bool {
    urgent.next(of: unsent, limit: 1, late: &counters.requestedLate) != nil
  }

  /// Hands out the next pages to send, at most `limit` (at least 1); nil: all are sent.
  public mutating func next(limit: Int) -> PullRun? {
    let limit = max(limit, 1)
    let pages: Range<Int>
    var isUrgent = false
    if let run = urgent.next(of: unsent, limit: limit, late: &counters.requestedLate) {
      (pages, isUrgent) = (run, true)
      counters.urgentPages += run.count
    } else if let run = ahead.next(of: unsent, limit: limit, late: &counters.requestedLate) {
      pages = run
      counters.aheadPages += run.count
    } else {
      guard let page = unsent.first(atOrAfter: sequenceNext) ?? unsent.first(atOrAfter: 0) else {
        return nil
      }
      pages = unsent.run(from: page, limit: limit)
      sequenceNext = pages.upperBound
      counters.sequencePages += pages.count
    }
    for page in pages { _ = unsent.remove(page) }
    return PullRun(pages, isUrgent: isUrgent)
  }

  /// Pages that were handed out went down with a connection.
  public mutating func lost(_ pages: Range<Int>) {
    for page in pages where numbering.contains(page) && unsent.insert(page) {
      counters.lostPages += 1
    }
  }
}

/// First in, first out.
private struct RunQueue: Sendable {
  private var runs: [Range<Int>] = []
  private var head = 0

  var count: Int { runs.count - head }
  var first: Range<Int>? { head < runs.count ? runs[head] : nil }

  mutating func append(_ run: Range<Int>) { runs.append(run) }

  /// The first unsent pages that are asked for; what is before them is dropped. `late` counts what
  /// was asked for and has gone already.
  mutating func next(of unsent: PageBitmap, limit: Int, late: inout Int) -> Range<Int>? {
    while let run = first {
      if let page = unsent.first(atOrAfter: run.lowerBound), page < run.upperBound {
        late += page - run.lowerBound
        runs[head] = page..<run.upperBound
        return unsent.run(from: page, limit: min(limit, run.upperBound - page))
      }
      late += run.count
      dropFirst()
    }
    return nil
  }

  mutating func dropFirst() {
    head += 1
    guard head >= 64, head * 2 >= runs.count else { return }
    runs.removeFirst(head)
    head = 0
  }
}
