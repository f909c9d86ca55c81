public import Base

/// The one truth about guest memory at the source: what the destination has, lacks, and will lack.
///
/// QEMU's stream is its dirty log: the first mention of a page says that it may be sent, each further
/// one that the guest wrote it since. A page is *fresh* until it is sent or mentioned again, *dirty*
/// once it was mentioned again; it is *owed* while its current version was mentioned and not taken.
/// The driver takes a page **before** it reads its bytes: whatever the guest writes after that comes
/// back as a further mention, so a page that is not owed equals what was read (I1, I4).
///
/// Memory: 12.2 bits per page (4 bitmaps, 8 epochs, and what finds words in them that are not zero), reckoned as 13:
/// 1.625 bytes. Noting and taking cost O(1), turning an epoch over
/// costs what the epoch dirtied.
public struct PageLedger: Sendable {
  public let numbering: PageNumbering
  /// Mentioned at least once.
  private var mentioned: PageBitmap
  /// Owed and never dirtied.
  private var fresh: PageBitmap
  /// Owed and dirtied since the start.
  private(set) var dirty: PageBitmap
  /// All zeros when last mentioned.
  private var zero: PageBitmap
  private(set) var history: HeatHistory
  /// Where the scan over fresh pages and the cycle over dirty ones stand.
  private var scanNext = 0
  private var cycleNext = 0

  /// Distinct pages dirtied in the epoch that runs; of these, fresh until then.
  public private(set) var epochDirtied = 0
  public private(set) var epochFirstDirtied = 0
  /// Of the epoch's pages, those that nothing was owed of when they were found dirtied.
  public private(set) var epochNewlyOwed = 0
  /// Pages taken, repeats included; versions replaced before they were taken.
  public private(set) var takenCount: UInt64 = 0
  public private(set) var supersededCount: UInt64 = 0

  /// - Parameter blockPages: pages of each RAM block.
  public init(blockPages: [Int]) {
    numbering = PageNumbering(blockPages: blockPages)
    let limit = numbering.limit
    mentioned = PageBitmap(count: limit)
    fresh = PageBitmap(count: limit)
    dirty = PageBitmap(count: limit)
    zero = PageBitmap(count: limit)
    history = HeatHistory(count: limit)
  }

  /// Bytes that a ledger for so many pages needs, at most but for a few kilobytes: 13 bits per page.
  public static func byteCount(pages: UInt64) -> UInt64 { pages.scaled(by: 13, over: 8) }

  /// Bytes of memory that its bits take.
  public var storedByteCount: Int {
    [mentioned, fresh, dirty, zero].reduce(history.storedByteCount) { $0 + $1.storedByteCount }
  }

  /// The stream mentions a page, by number.
  public mutating func note(_ page: Int, isZero: Bool) {
    let wasZero = zero[page]
    if isZero { _ = zero.insert(page) } else { _ = zero.remove(page) }
    guard !mentioned.insert(page) else {
      _ = fresh.insert(page)
      if isZero { freshZeroCount += 1 }
      return
    }
    if fresh.remove(page) {
      if wasZero { freshZeroCount -= 1 }
      supersededCount += 1
      epochFirstDirtied += 1
      _ = dirty.insert(page)
    } else if dirty.insert(page) {
      epochNewlyOwed += 1
    } else {
      supersededCount += 1
    }
    if history.note(page) { epochDirtied += 1 }
  }

  /// An epoch's dirty log is complete: says what it held, and begins the next.
  public mutating func endEpoch() -> (dirtied: Int, first: Int, newlyOwed: Int) {
    defer { (epochDirtied, epochFirstDirtied, epochNewlyOwed) = (0, 0, 0) }
    history.turnOver()
    return (epochDirtied, epochFirstDirtied, epochNewlyOwed)
  }

  /// Pages that QEMU's stream has mentioned at least once.
  public var mentionedCount: Int { mentioned.population }
  public var freshCount: Int { fresh.population }
  /// Of the fresh pages, those that are all zeros and cost next to nothing.
  public private(set) var freshZeroCount = 0
  public var dirtyCount: Int { dirty.population }
  public var owedCount: Int { fresh.population + dirty.population }

  /// Everything owed, by number.
  public var owedPages: PageBitmap {
    var owed = fresh
    var next = dirty.first(atOrAfter: 0)
    while let page = next {
      _ = owed.insert(page)
      next = dirty.first(atOrAfter: page + 1)
    }
    return owed
  }

  /// Whether the destination lacks the page's last mentioned version: fresh or dirty.
  public func isOwed(_ page: Int) -> Bool { fresh[page] || dirty[page] }
  /// As of its last mention; false for a page that was never mentioned.
  public func isZero(_ page: Int) -> Bool { zero[page] }
  /// In how many of the last 8 epochs, the running one included, the page was dirtied: `0...8`.
  public func heat(of page: Int) -> UInt8 { history.heat(of: page) }

  /// Owed dirty pages by heat `0...8`. Costs O(words with owed dirty pages).
  public func dirtyByHeat() -> [UInt64] {
    var counts = [UInt64](repeating: 0, count: 9)
    var next = dirty.firstWord(atOrAfter: 0)
    while let group = next {
      let pages = dirty.word(group)
      let (one, two, four, eight) = history.slices(group: group)
      for heat in 0...8 {
        let match =
          (heat & 1 != 0 ? one : ~one) & (heat & 2 != 0 ? two : ~two)
          & (heat & 4 != 0 ? four : ~four) & (heat & 8 != 0 ? eight : ~eight)
        counts[heat] += UInt64((pages & match).nonzeroBitCount)
      }
      next = dirty.firstWord(atOrAfter: group + 1)
    }
    return counts
  }

  /// The next fresh page of the scan, which goes from the lowest number to the highest once, and again
  /// over what was mentioned behind it.
  public func nextFresh() -> Int? {
    guard fresh.population > 0 else { return nil }
    return fresh.first(atOrAfter: scanNext) ?? fresh.first(atOrAfter: 0)
  }

  /// The next dirty page colder than `heat` in the cycle over all of RAM; 9 allows any.
  public func nextDirty(colderThan heat: UInt8) -> Int? {
    guard dirty.population > 0 else { return nil }
    let start = cycleNext < numbering.limit ? cycleNext : 0
    return firstDirty(atOrAfter: start, before: numbering.limit, colderThan: heat)
      ?? firstDirty(atOrAfter: 0, before: start, colderThan: heat)
  }

  /// Takes a page that is owed; says whether it was.
  public mutating func take(_ page: Int) -> Bool {
    if fresh.remove(page) {
      if zero[page] { freshZeroCount -= 1 }
      scanNext = page + 1
    } else if dirty.remove(page) {
      cycleNext = page + 1
    } else {
      return false
    }
    takenCount += 1
    return true
  }

  /// The pages the destination lacks, in rising order from `page`: the next one, or nil.
  public func firstOwed(atOrAfter page: Int) -> Int? {
    switch (fresh.first(atOrAfter: page), dirty.first(atOrAfter: page)) {
    case (let a?, let b?): min(a, b)
    case (let a, let b): a ?? b
    }
  }

  private func firstDirty(atOrAfter start: Int, before end: Int, colderThan heat: UInt8) -> Int? {
    guard heat > 0, start < end else { return nil }
    var group = start >> 6
    var below: UInt64 = (1 << UInt64(start & 63)) - 1
    while let next = dirty.firstWord(atOrAfter: group) {
      if next != group { below = 0 }
      group = next
      guard group << 6 < end else { return nil }
      var pages = dirty.word(group) & ~below
      if heat < 9 { pages &= ~history.mask(group: group, atLeast: heat) }
      if pages != 0 {
        let page = group << 6 + pages.trailingZeroBitCount
        return page < end ? page : nil
      }
      (group, below) = (group + 1, 0)
    }
    return nil
  }
}
