public import Base

/// The destination's directory of pages while the guest already runs there: one writer, and for each
/// page exactly one state. Pure.
///
/// The driver tells it of faults (QEMU's page requests) and of pages that arrive; it says what to ask
/// the source for next, and which arrivals to write. The source also sends on its own what nobody
/// asked for, so a page may arrive in any state.
///
/// Pages that the destination may have (`mayBeMade`) are not asked for at first: what proves them is, then the driver
/// makes them (`takeToMake`), and says so by `arrived` or `failed`. Where that takes too long they are asked for after
/// all, and whichever comes first is placed.
///
/// Ahead of faults the pages that the guest has written most of late go first (`prefer`), as far as the source says which
/// those are; but after each fault, and where nothing is said, those around it do.
///
/// Invariants: a page is placed at most once; a fault is asked for before any page that nobody waits
/// for, and faults in their order; at most `pace.pages` pages are asked for ahead of faults.
///
/// Memory: 7 bits per page, and what is waited for.
public struct PullDirectory: Sendable {
  public let numbering: PageNumbering
  /// Pages asked for ahead of faults and not there yet, at most.
  public internal(set) var pace: PullPace
  /// Pages in one request ahead of faults, at most.
  public let runMax: Int
  public internal(set) var counters = Counters()

  /// Pages that were not there at the start.
  private let invalid: PageBitmap
  /// Of these, not there, not asked for, and not to be made here.
  var wanted: PageBitmap
  /// Asked for, and not there.
  private var requested: PageBitmap
  /// May be made here, and are not there.
  var local: PullLocal
  /// Waited for by the guest, and not there. Such a page is wanted, requested, or local as well.
  var faulted: PageBitmap
  /// Of `faulted`, in order of arrival, with those that have come since; from `faultNext` on not asked for.
  private var faults: [Int] = []
  private var faultNext = 0
  private static let faultsForgetMin = 64
  private var faultsForgetAt = Self.faultsForgetMin
  private var window = PrefetchWindow()
  private var heat: HeatOrder
  /// Pages around the last fault that are asked for before hot ones, yet.
  private var windowPages = 0
  /// Requested and not faulted.
  public private(set) var inFlight = 0

  /// - Parameters:
  ///   - invalid: the pages that the destination lacks, or has old copies of, by number; no numbers
  ///     that stand for no page (`PageNumbering.numbers`).
  ///   - runMax: at least 1.
  public init(
    numbering: PageNumbering, invalid: PageBitmap, pace: PullPace = PullPace(), runMax: Int = 32
  ) {
    precondition(invalid.count == numbering.limit)
    (self.numbering, self.invalid) = (numbering, invalid)
    (self.pace, self.runMax) = (pace, max(runMax, 1))
    wanted = invalid
    requested = PageBitmap(count: numbering.limit)
    faulted = PageBitmap(count: numbering.limit)
    local = PullLocal(count: numbering.limit)
    heat = HeatOrder(count: numbering.limit)
  }

  /// The source says in how many of its last epochs (`0...8`) the guest has written these pages.
  public mutating func prefer(_ pages: Range<Int>, heat: UInt8) throws(PullRefusal) {
    guard !pages.isEmpty else { return }
    try check(pages.lowerBound)
    try check(pages.upperBound - 1)
    self.heat.add(pages, heat: heat)
  }

  /// Pages that are still not there.
  public var missingCount: Int { wanted.population + requested.population + local.count }
  /// Everything is there: the stream to QEMU can be ended.
  public var isDone: Bool { missingCount == 0 }

  /// What may be made here counts as `wanted`. Throws `noSuchPage` for a number that stands for no
  /// page.
  public func state(of page: Int) throws(PullRefusal) -> PullPageState {
    try check(page)
    if wanted[page] || local.contains(page) { return .wanted }
    if requested[page] { return .requested }
    return invalid[page] ? .placed : .present
  }

  /// The guest waits for a page.
  public mutating func fault(_ page: Int, nowUs: UInt64) throws(PullRefusal) {
    try check(page)
    move(to: page)
    let isLocal = local.contains(page)
    guard isLocal || wanted[page] || requested[page] else {
      return counters.faultsAnsweredBefore += 1
    }
    guard faulted.insert(page) else { return }
    counters.faults += 1
    windowPages = runMax
    if requested[page] {
      counters.faultsOnTheWay += 1
      inFlight -= 1
      pace.overtakes(page)
    }
    if isLocal, !local.fault(page, nowUs: nowUs) { _ = wanted.insert(page) }
    forgetAnswered()
    faults.append(page)
  }

  /// What to ask the source for at this moment; nil: nothing, until something happens. As long as `mayMakeMore` time is a thing
  /// that happens.
  public mutating func nextRequest(nowUs: UInt64) -> PullRun? {
    for page in local.overdue(nowUs: nowUs) { leaveToSource(page) }
    while faultNext < faults.count {
      let page = faults[faultNext]
      faultNext += 1
      guard faulted[page], !local.contains(page) else { continue }
      if wanted.remove(page) { _ = requested.insert(page) }
      return PullRun(page..<page + 1, .urgent)
    }
    if let run = local.nextQuestion(limit: runMax, ahead: pace.pages, nowUs: nowUs) {
      return PullRun(run, .identities)
    }
    let room = pace.pages - inFlight
    // Not a page for a page: once small, requests would stay small, and each costs both sides as much as a large one.
    guard room >= max(min(runMax, pace.pages / 4), 1),
      let run = nextAhead(limit: min(runMax, room), nowUs)
    else { return nil }
    for page in run {
      _ = wanted.remove(page)
      _ = requested.insert(page)
    }
    inFlight += run.count
    pace.asked(last: run.upperBound - 1, nowUs: nowUs)
    return PullRun(run, .ahead)
  }

  mutating func want(_ page: Int) {
    _ = wanted.insert(page)
    heat.wake()
  }

  mutating func leaveToSource(_ page: Int) {
    want(page)
    // It may not have had its turn yet.
    if faulted[page], !faults[faultNext...].contains(page) { faults.append(page) }
  }

  /// A page is here, from the source or made at the destination itself. True: write it to QEMU, now and
  /// only now. False: drop it.
  public mutating func arrived(
    _ page: Int, from origin: PullOrigin = .source, nowUs: UInt64
  ) throws(PullRefusal) -> Bool {
    try check(page)
    let wasRequested = requested.remove(page)
    guard wasRequested || wanted.remove(page) || local.remove(page) else {
      counters.duplicates += 1
      return false
    }
    let isAwaited = faulted.remove(page)
    if wasRequested, !isAwaited { inFlight -= 1 }
    guard origin == .source else {
      noteMade(page, of: origin, isAwaited: isAwaited)
      return true
    }
    pace.arrived(page, nowUs: nowUs)
    if isAwaited {
      counters.placedForFaults += 1
    } else if wasRequested {
      counters.placedAhead += 1
    } else {
      counters.placedUnasked += 1
    }
    return true
  }

  /// Requests, or their answers, may be lost: a connection broke. Everything that is not here will be
  /// asked for again, faults first and in their order.
  public mutating func forgetRequests() {
    while let page = requested.first(atOrAfter: 0) {
      _ = requested.remove(page)
      _ = wanted.insert(page)
    }
    local.forgetQuestions()
    heat.wake()
    inFlight = 0
    pace.forget()
    let last = faults.last
    // A page that could not be made stands there twice.
    var seen: Set<Int> = []
    faults = faults.filter { faulted[$0] && seen.insert($0).inserted }
    faultNext = 0
    if let last { move(to: last) } else { window = PrefetchWindow() }
  }

  /// Hot pages, in turn with those around the last fault; then these alone; where they are all asked for, the first ones of
  /// all.
  private mutating func nextAhead(limit: Int, _ nowUs: UInt64) -> Range<Int>? {
    if !heat.isEmpty {
      // Both sides of it.
      let part = min(limit, max(runMax / 2, 1))
      if windowPages > 0, let run = window.next(of: wanted, limit: part) {
        windowPages -= run.count
        return run
      }
      if let run = heat.next(of: wanted, limit: limit) { return run }
    }
    if let run = window.next(of: wanted, limit: limit) { return run }
    guard let first = wanted.first(atOrAfter: 0) else {
      return local.nextToLeave(limit: limit, ahead: pace.pages, nowUs: nowUs)
    }
    let run = wanted.run(from: first, limit: limit)
    window.move(to: run.upperBound - 1, in: numbers(around: run.lowerBound))
    return run
  }

  private mutating func move(to page: Int) {
    let bounds = numbers(around: page)
    window.move(to: page, in: bounds)
    local.move(to: page, in: bounds)
  }

  /// Those of the page's block.
  private func numbers(around page: Int) -> Range<Int> {
    let block = numbering.block(of: page)
    let base = numbering.bases[block]
    return base..<base + numbering.counts[block]
  }

  /// Drops faults that have been answered, so that the queue holds little more than is waited for.
  private mutating func forgetAnswered() {
    guard faults.count >= faultsForgetAt else { return }
    let asked = faults[..<faultNext].filter { faulted[$0] }
    let rest = faults[faultNext...].filter { faulted[$0] }
    (faults, faultNext) = (asked + rest, asked.count)
    // Doubled, so that a fault costs a constant number of steps over time.
    faultsForgetAt = max(Self.faultsForgetMin, faults.count * 2)
  }

  func check(_ page: Int) throws(PullRefusal) {
    guard numbering.contains(page) else { throw .noSuchPage(page) }
  }
}
