import Base

/// Pages of a pull that the destination may be able to make of what it has: the source is asked what proves such a page,
/// then the page is made here, and only what can't be made is asked for. Pure.
///
/// Such a page is in one of five states, and in none any more once it has come, or is left to the source.
///
/// Whoever makes pages reads a disk, or a file over a network, and either may never answer. So nothing waits for that
/// alone: what the guest has waited for too long, and everything once a maker stands still, is left to the source
/// (`overdue`). A maker that comes back with such a page comes for nothing.
///
/// Memory: one bit per page, and what is between its question and its end.
struct PullLocal: Sendable {
  enum State: Sendable {
    /// The source was asked what proves it.
    case asked
    /// Proof is here, and it waits for its turn.
    case known
    /// The same, and the guest waits for it.
    case urgent
    /// Somebody makes it.
    case making
  }

  /// Pages between their question and their end, at least so many.
  static let openMin = 1024
  /// More of them per page that may be asked for ahead: what proves a page is a hundredth of it.
  static let openPerPage = 4
  /// Pages that could not be made, and their share, after which nothing is made any more.
  static let failedMin = 256
  static let failedShare = 4
  /// The guest waits so long for a page that may be made here, in microseconds; then it is asked for. A busy disk takes
  /// less for some reads in a row.
  static let patienceUs: UInt64 = 50_000
  /// A maker that has had the same pages for so long stands still, in microseconds: a disk that wakes up or changes its
  /// path takes as long, and beside a link that works it isn't worth waiting for.
  static let stallUs: UInt64 = 2_000_000

  /// Of these nobody has asked the source anything.
  private(set) var untried: PageBitmap
  private var states: [Int: State] = [:]
  private var askedCount = 0
  /// Known, in the order of their arrival, with those that have left since.
  private var waiting = PageQueue()
  /// Known and waited for by the guest, likewise.
  private var urgent = PageQueue()
  /// What the guest has begun to wait for, in that order, with those that have left since.
  private var awaited: [(page: Int, sinceUs: UInt64)] = []
  /// Since when each of the two makers has had what it took last; nil: it has nothing.
  private var urgentSinceUs: UInt64?
  private var otherSinceUs: UInt64?
  private var window = PrefetchWindow()
  private var madeCount = 0
  private var failedCount = 0

  init(count: Int) { untried = PageBitmap(count: count) }

  /// From now on these pages may be made here.
  mutating func add(_ pages: PageBitmap) { untried = pages }

  var count: Int { untried.population + states.count }

  func contains(_ page: Int) -> Bool { untried[page] || states[page] != nil }

  /// Too many could not be made: what the source and this host have is no longer the same.
  var isGivenUp: Bool {
    failedCount >= Self.failedMin && failedCount * Self.failedShare > failedCount + madeCount
  }

  /// The page is here, or is left to the source. False: it was none of these.
  mutating func remove(_ page: Int) -> Bool {
    if let state = states.removeValue(forKey: page) {
      if state == .asked { askedCount -= 1 }
      return true
    }
    return untried.remove(page)
  }

  /// The guest waits for a page of these. True: it is made here, before others. False: the source has it sooner; it is
  /// none of these any more.
  mutating func fault(_ page: Int, nowUs: UInt64) -> Bool {
    switch states[page] {
    case .known:
      states[page] = .urgent
      urgent.append(page)
    case .making, .urgent: break
    case .asked, nil:
      _ = remove(page)
      return false
    }
    awaited.append((page, nowUs))
    return true
  }

  /// Pages that are left to the source because making them takes too long: they are none of these any more. First those
  /// that the guest waits for, in their order.
  mutating func overdue(nowUs: UInt64) -> [Int] {
    guard !states.isEmpty || !awaited.isEmpty else { return [] }
    let isStalled = isStalled(nowUs)
    let due = awaited.prefix { isStalled || Self.age(of: $0.sinceUs, nowUs) >= Self.patienceUs }
    awaited.removeFirst(due.count)
    var pages = due.map(\.page).filter { states.removeValue(forKey: $0) != nil }
    guard isStalled, states.count > askedCount else { return pages }
    for page in states.keys.sorted() where states[page] != .asked {
      states[page] = nil
      pages.append(page)
    }
    return pages
  }

  /// Whether a maker stands still.
  private func isStalled(_ nowUs: UInt64) -> Bool { heldUs(nowUs) >= Self.stallUs }

  /// For how long a maker has had the same pages.
  private func heldUs(_ nowUs: UInt64) -> UInt64 {
    max(Self.age(of: urgentSinceUs ?? nowUs, nowUs), Self.age(of: otherSinceUs ?? nowUs, nowUs))
  }

  private static func age(of sinceUs: UInt64, _ nowUs: UInt64) -> UInt64 {
    nowUs - min(sinceUs, nowUs)
  }

  mutating func move(to page: Int, in bounds: Range<Int>) { window.move(to: page, in: bounds) }

  /// Pages to ask the source about now; around the last fault first.
  ///
  /// - Parameters:
  ///   - limit: most of them, at least 1.
  ///   - ahead: pages that may be asked for ahead of faults.
  mutating func nextQuestion(limit: Int, ahead: Int, nowUs: UInt64) -> Range<Int>? {
    // In pieces that are worth a question.
    guard !isGivenUp, !isStalled(nowUs), openMax(ahead) - states.count >= limit else { return nil }
    var next = window.next(of: untried, limit: limit)
    if next == nil, let first = untried.first(atOrAfter: 0) {
      next = untried.run(from: first, limit: limit)
    }
    guard let run = next else { return nil }
    for page in run {
      _ = untried.remove(page)
      states[page] = .asked
    }
    askedCount += run.count
    return run
  }

  /// Pages to ask the source for although they might be made here: making them is what takes long, and the link has
  /// nothing to do. They are none of these any more.
  mutating func nextToLeave(limit: Int, ahead: Int, nowUs: UInt64) -> Range<Int>? {
    guard let last = untried.last(atOrBefore: untried.count - 1) else {
      return heldUs(nowUs) >= Self.patienceUs ? leaveKnown(limit: limit) : nil
    }
    let isBehind = (states.count - askedCount) * 2 > openMax(ahead)
    guard isGivenUp || isBehind || isStalled(nowUs) else { return nil }
    let run = untried.run(endingAt: last, limit: limit)
    for page in run { _ = untried.remove(page) }
    return run
  }

  /// From the end of those that wait for their turn.
  private mutating func leaveKnown(limit: Int) -> Range<Int>? {
    var run: Range<Int>?
    while run?.count ?? 0 < limit, let page = waiting.last {
      if states[page] == .known {
        guard run == nil || run?.lowerBound == page + 1 else { break }
        run = page..<(run?.upperBound ?? page + 1)
        states[page] = nil
      }
      waiting.removeLast()
    }
    return run
  }

  /// The source's answer. Nil: nobody asked, or it comes too late. False: it is to be asked for.
  mutating func identified(_ page: Int, isKnown: Bool) -> Bool? {
    guard states[page] == .asked else { return nil }
    askedCount -= 1
    guard isKnown else {
      states[page] = nil
      return false
    }
    states[page] = .known
    waiting.append(page)
    return true
  }

  /// Pages to make now, in order. Whoever asks has made what it took before.
  ///
  /// - Parameter isUrgent: only those that the guest waits for.
  mutating func take(isUrgent: Bool, limit: Int, nowUs: UInt64) -> [Int] {
    var pages: [Int] = []
    while pages.count < limit, let page = isUrgent ? urgent.next() : waiting.next() {
      guard states[page] == .known || states[page] == .urgent else { continue }
      states[page] = .making
      pages.append(page)
    }
    let sinceUs = pages.isEmpty ? nil : nowUs
    if isUrgent { urgentSinceUs = sinceUs } else { otherSinceUs = sinceUs }
    return pages
  }

  mutating func noteMade() { madeCount += 1 }

  /// It can't be made. False: it has come meanwhile.
  mutating func failed(_ page: Int) -> Bool {
    guard states[page] == .making else { return false }
    states[page] = nil
    failedCount += 1
    return true
  }

  /// Questions, or their answers, may be lost. (No matter in which order they are gone through.)
  mutating func forgetQuestions() {
    for (page, state) in states where state == .asked {
      states[page] = nil
      _ = untried.insert(page)
    }
    askedCount = 0
    window = PrefetchWindow()
  }

  private func openMax(_ ahead: Int) -> Int { max(Self.openMin, ahead * Self.openPerPage) }
}
