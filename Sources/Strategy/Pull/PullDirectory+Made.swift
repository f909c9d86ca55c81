public import Base

/// Pages that the destination makes itself, of what it has.
extension PullDirectory {
  /// Of these pages the destination may have the content; counts for those that nobody has asked for. Once, before or
  /// after the first requests.
  ///
  /// - Parameter pages: nil: of any.
  public mutating func mayBeMade(_ pages: PageBitmap?) {
    var candidates = wanted
    if let pages { candidates.formIntersection(pages) }
    candidates.subtract(faulted)
    wanted.subtract(candidates)
    local.add(candidates)
  }

  /// Whether a page may still be made here.
  public var mayMakeMore: Bool { local.count > 0 }

  /// The source has said whether a page can be made here. True: keep its proof until it is taken to be made. False:
  /// there is none, or it is of no use any more.
  public mutating func identified(_ page: Int, isKnown: Bool) throws(PullRefusal) -> Bool {
    try check(page)
    guard let isLocal = local.identified(page, isKnown: isKnown) else { return false }
    if !isLocal { want(page) }
    return isLocal
  }

  /// Pages to make now, whose proof was kept: each is told of by `arrived` or `failed`.
  ///
  /// - Parameter isUrgent: those that the guest waits for, and no others. One caller for each of the two, which has made
  ///   what it was given before.
  public mutating func takeToMake(isUrgent: Bool, limit: Int, nowUs: UInt64) -> [Int] {
    local.take(isUrgent: isUrgent, limit: limit, nowUs: nowUs)
  }

  /// A page could not be made here: it is asked for.
  public mutating func failed(_ page: Int) throws(PullRefusal) {
    try check(page)
    guard local.failed(page) else { return }
    counters.unmade += 1
    leaveToSource(page)
  }

  mutating func noteMade(_ page: Int, of origin: PullOrigin, isAwaited: Bool) {
    local.noteMade()
    // It says nothing of the link.
    pace.overtakes(page)
    switch origin {
    case .source: break
    case .snapshot: counters.ofSnapshot += 1
    case .disk: counters.ofDisk += 1
    case .vault: counters.ofVault += 1
    }
    if isAwaited {
      counters.placedForFaults += 1
      counters.madeForFaults += 1
    } else {
      counters.placedMade += 1
    }
  }
}
