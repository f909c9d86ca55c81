import Base

/// The source's part of a pull: which of the pages that the destination has asked for goes next. Pure.
///
/// The source knows nothing of what the destination lacks: it answers requests from the stopped guest's
/// memory. So a connection that broke, or an agent that was started anew, needs nothing from before;
/// a new one of these begins with what the destination asks for next.
///
/// First what a processor of the guest waits for, then what is asked for ahead, each in the order of asking. A
/// page goes once over the same connections: what is asked for while it is on its way is not sent again.
///
/// What proves pages is asked for as the pages are, and likewise given once.
///
/// Memory: four bits per page, and the requests.
public struct PullSource: Sendable {
  /// What was handed out so far, over the connections of this source.
  public struct Counters: Sendable, Hashable {
    public var urgentPages: UInt64 = 0
    public var aheadPages: UInt64 = 0
    /// Pages asked for that were on their way already.
    public var requestedLate: UInt64 = 0
    /// Pages whose proof was given, because the destination may have them.
    public var identifiedPages: UInt64 = 0
    /// Pages that the destination has asked about and been answered, those among them.
    public var answeredPages: UInt64 = 0

    public init() {}

    /// Pages that will still cross the network of so many that were missing: those that the destination makes of what it
    /// has do not. Of what it has not asked about yet the same share is taken to cross it as of the rest.
    public func crossing(of owed: UInt64) -> UInt64 {
      let sent = urgentPages.addingSaturating(aheadPages)
      let left = owed.minusFloored(sent.addingSaturating(identifiedPages))
      guard answeredPages > 0 else { return left }
      let unknown = answeredPages.minusFloored(identifiedPages)
      let waiting = min(unknown.minusFloored(sent), left)
      return waiting + (left - waiting).scaled(by: unknown, over: answeredPages)
    }
  }

  /// Urgent requests that may wait. A guest's processors and QEMU's own threads cause one each.
  public static let urgentRunsMax = 65_536
  /// Other requests that may wait; an honest destination has a few pages on their way.
  public static let aheadRunsMax = 65_536

  public let numbering: PageNumbering
  public private(set) var counters = Counters()
  /// Asked for and not handed out.
  private var wanted: PageBitmap
  /// Handed out.
  private var sent: PageBitmap
  /// Of these what proves them is asked for and not handed out; handed out.
  private var questioned: PageBitmap
  private var identified: PageBitmap
  private var urgent = RunQueue()
  private var ahead = RunQueue()
  private var questions = RunQueue()

  public init(numbering: PageNumbering) {
    self.numbering = numbering
    wanted = PageBitmap(count: numbering.limit)
    sent = PageBitmap(count: numbering.limit)
    questioned = PageBitmap(count: numbering.limit)
    identified = PageBitmap(count: numbering.limit)
  }

  /// The destination asks for pages.
  public mutating func request(_ run: PullRun) throws(PullRefusal) {
    guard numbering.contains(run.pages.lowerBound), numbering.contains(run.pages.upperBound - 1),
      numbering.block(of: run.pages.lowerBound) == numbering.block(of: run.pages.upperBound - 1)
    else { throw .noSuchPage(run.pages.lowerBound) }
    let limit = run.isUrgent ? Self.urgentRunsMax : Self.aheadRunsMax
    guard waitingCount(run.kind) < limit else { throw .tooManyRequests(limit: limit) }
    guard run.kind != .identities else {
      for page in run.pages where !identified[page] { _ = questioned.insert(page) }
      return questions.append(run.pages)
    }
    for page in run.pages {
      if sent[page] { counters.requestedLate += 1 } else { _ = wanted.insert(page) }
    }
    if run.isUrgent { urgent.append(run.pages) } else { ahead.append(run.pages) }
  }

  private func waitingCount(_ kind: PullRun.Kind) -> Int {
    switch kind {
    case .urgent: urgent.count
    case .ahead: ahead.count
    case .identities: questions.count
    }
  }

  /// The next pages to say of what proves them, at most `limit` (at least 1).
  public mutating func nextQuestion(limit: Int) -> Range<Int>? {
    guard let pages = questions.next(of: questioned, limit: max(limit, 1)) else { return nil }
    for page in pages {
      _ = questioned.remove(page)
      _ = identified.insert(page)
    }
    return pages
  }

  /// So many pages were proven to the destination, of so many that it was answered about.
  public mutating func noteIdentified(_ count: Int, of answered: Int) {
    counters.identifiedPages += UInt64(count)
    counters.answeredPages += UInt64(answered)
  }

  /// The next pages that somebody waits for, at most `limit` (at least 1).
  public mutating func nextUrgent(limit: Int) -> Range<Int>? {
    guard let pages = urgent.next(of: wanted, limit: max(limit, 1)) else { return nil }
    handOut(pages)
    counters.urgentPages += UInt64(pages.count)
    return pages
  }

  /// The next pages that are asked for ahead, at most `limit` (at least 1).
  public mutating func nextAhead(limit: Int) -> Range<Int>? {
    guard let pages = ahead.next(of: wanted, limit: max(limit, 1)) else { return nil }
    handOut(pages)
    counters.aheadPages += UInt64(pages.count)
    return pages
  }

  private mutating func handOut(_ pages: Range<Int>) {
    for page in pages {
      _ = wanted.remove(page)
      _ = sent.insert(page)
    }
  }
}

/// First in, first out.
private struct RunQueue: Sendable {
  private var runs: [Range<Int>] = []
  private var head = 0

  var count: Int { runs.count - head }

  mutating func append(_ run: Range<Int>) { runs.append(run) }

  /// The first wanted pages that are asked for; requests before them have been answered and are dropped.
  mutating func next(of wanted: PageBitmap, limit: Int) -> Range<Int>? {
    while head < runs.count {
      let run = runs[head]
      if let page = wanted.first(atOrAfter: run.lowerBound), page < run.upperBound {
        runs[head] = page..<run.upperBound
        return wanted.run(from: page, limit: min(limit, run.upperBound - page))
      }
      dropFirst()
    }
    return nil
  }

  private mutating func dropFirst() {
    head += 1
    guard head >= 64, head * 2 >= runs.count else { return }
    runs.removeFirst(head)
    head = 0
  }
}
