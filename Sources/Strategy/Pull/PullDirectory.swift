public import Base

/// The destination's directory of pages while the guest already runs there: one writer, and for each
/// page exactly one state. Pure.
///
/// The driver tells it of faults (QEMU's page requests) and of pages that arrive; it says what to ask
/// the source for next, and which arrivals to write. The source also sends on its own what nobody
/// asked for, so a page may arrive in any state.
///
/// Invariants: a page is placed at most once; a fault is asked for before any page that nobody waits
/// for, and faults in their order; at most `pace.pages` pages are asked for ahead of faults.
///
/// Memory: 4 bits per page, and what is waited for.
public struct PullDirectory: Sendable {
  public struct Counters: Sendable, Hashable {
    /// Faults that had to wait for a page; of these, for one that was on its way already.
    public var faults = 0
    public var faultsOnTheWay = 0
    /// Faults for pages that were there by then.
    public var faultsAnsweredBefore = 0
    /// Pages placed: that a processor waited for, that were asked for ahead, that came unasked.
    public var placedForFaults = 0
    public var placedAhead = 0
    public var placedUnasked = 0
    /// Arrivals that were dropped.
    public var duplicates = 0

    public var placed: Int { placedForFaults + placedAhead + placedUnasked }
  }

  public let numbering: PageNumbering
  /// Pages asked for ahead of faults and not there yet, at most.
  public private(set) var pace: PullPace
  /// Pages in one request ahead of faults, at most.
  public let runMax: Int
  public private(set) var counters = Counters()

  /// Pages that were not there at the start.
  private let invalid: PageBitmap
  /// Of these, not there and not asked for.
  private var wanted: PageBitmap
  /// Asked for, and not there.
  private var requested: PageBitmap
  /// Waited for by the guest, and not there. Such a page is wanted or requested as well.
  private var faulted: PageBitmap
  /// Of `faulted`, in order of arrival, with those that have come since; from `faultNext` on not asked for.
  private var faults: [Int] = []
  private var faultNext = 0
  private static let faultsForgetMin = 64
  private var faultsForgetAt = Self.faultsForgetMin
  private var window = PrefetchWindow()
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
  }

  /// Pages that are still not there.
  public var missingCount: Int { wanted.population + requested.population }
  /// Everything is there: the stream to QEMU can be ended.
  public var isDone: Bool { missingCount == 0 }

  public func state(of page: Int) throws(PullRefusal) -> PullPageState {
    try check(page)
    if wanted[page] { return .wanted }
    if requested[page] { return .requested }
    return invalid[page] ? .placed : .present
  }

  /// The guest waits for a page.
  public mutating func fault(_ page: Int) throws(PullRefusal) {
    try check(page)
    move(to: page)
    guard wanted[page] || requested[page] else { return counters.faultsAnsweredBefore += 1 }
    guard faulted.insert(page) else { return }
    counters.faults += 1
    if requested[page] {
      counters.faultsOnTheWay += 1
      inFlight -= 1
      pace.overtakes(page)
    }
    forgetAnswered()
    faults.append(page)
  }

  /// What to ask the source for now; nil: nothing, until something happens.
  public mutating func nextRequest(nowUs: UInt64) -> PullRun? {
    while faultNext < faults.count {
      let page = faults[faultNext]
      faultNext += 1
      guard faulted[page] else { continue }
      if wanted.remove(page) { _ = requested.insert(page) }
      return PullRun(page..<page + 1, isUrgent: true)
    }
    let room = min(runMax, pace.pages - inFlight)
    guard room > 0, let run = nextAhead(limit: room) else { return nil }
    for page in run {
      _ = wanted.remove(page)
      _ = requested.insert(page)
    }
    inFlight += run.count
    pace.asked(last: run.upperBound - 1, nowUs: nowUs)
    return PullRun(run, isUrgent: false)
  }

  /// A page is here, from the source or made at the destination itself. True: write it to QEMU, now and
  /// only now. False: drop it.
  public mutating func arrived(_ page: Int, nowUs: UInt64) throws(PullRefusal) -> Bool {
    try check(page)
    let wasRequested = requested.remove(page)
    guard wasRequested || wanted.remove(page) else {
      counters.duplicates += 1
      return false
    }
    pace.arrived(page, nowUs: nowUs)
    if faulted.remove(page) {
      counters.placedForFaults += 1
    } else if wasRequested {
      inFlight -= 1
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
    inFlight = 0
    pace.forget()
    faultNext = 0
    forgetAnswered()
    if let last = faults.last { move(to: last) } else { window = PrefetchWindow() }
  }

  /// Pages around the last fault; where those are all asked for, the first ones of all.
  private mutating func nextAhead(limit: Int) -> Range<Int>? {
    if let run = window.next(of: wanted, limit: limit) { return run }
    guard let first = wanted.first(atOrAfter: 0) else { return nil }
    let run = wanted.run(from: first, limit: limit)
    move(to: run.upperBound - 1)
    return run
  }

  private mutating func move(to page: Int) {
    let block = numbering.block(of: page)
    let base = numbering.bases[block]
    window.move(to: page, in: base..<base + numbering.counts[block])
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

  private func check(_ page: Int) throws(PullRefusal) {
    guard numbering.contains(page) else { throw .noSuchPage(page) }
  }
}
