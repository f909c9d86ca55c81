import Base
import Strategy
import Wire

/// Pages that leave together: the content of one batch.
struct PickedPages: Sendable {
  /// Pages of zeros, at most: as small a step as the window for them needs (`ZeroWindow`).
  static let zeroPagesMax = 2048
  /// So many of them weigh as much as a page with contents.
  static let zerosPerPage = 64

  var runs: [PageRun] = []
  /// Where the bytes of inline pages are in the pen, in the order of the raw runs; empty for
  /// memory that is read directly.
  var places: [Int32] = []
  var rawPages = 0
  var zeroPages = 0
  var isScan = false

  /// Whether one more page of the kind fits, from the pen or from the guest's memory.
  ///
  /// - Parameter continuing: it lies right behind the last one; of the same kind, it needs no run of its own.
  /// Pages, as far as they count where the scan and the cycle over dirty pages share the link: it is the link that is shared,
  /// and a zero page is next to nothing there. It isn't nothing: the destination's QEMU looks at each.
  var weight: Int { rawPages + (zeroPages + Self.zerosPerPage - 1) / Self.zerosPerPage }

  func takes(isZero: Bool, isInline: Bool, continuing: Bool) -> Bool {
    let extends = continuing && runs.last?.pageClass == (isZero ? .zero : .raw)
    guard extends || runs.count < BatchLimits.runsMax else { return false }
    if isZero { return zeroPages < Self.zeroPagesMax }
    return rawPages < BatchLimits.rawPagesMax && (rawPages == 0 || isInline == !places.isEmpty)
  }

  mutating func add(block: UInt16, page: UInt64, isZero: Bool) {
    if isZero { zeroPages += 1 } else { rawPages += 1 }
    let pageClass: PageClass = isZero ? .zero : .raw
    if !runs.isEmpty, runs[runs.count - 1].extend(block: block, pageClass: pageClass, page: page) {
      return
    }
    runs.append(PageRun(block: block, pageClass: pageClass, firstPage: page, count: 1))
  }
}

extension SourceLedger.State {
  /// Takes the next pages out of the ledger: of the scan or of the cycle over dirty pages, whichever
  /// is behind its share. Nil when nothing may be sent.
  mutating func pick() -> PickedPages? {
    guard ledger != nil, !isInPackage else { return nil }
    // What a stopped guest that moves before its memory still owes is asked for by the destination.
    if pulls, guestIsStopped { return pickUnreadable() }
    let prefersScan = scanLead <= 0
    if let pages = gather(fromScan: prefersScan) { return pages }
    // The other one's turn for as long as this one has nothing.
    scanLead = 0
    return gather(fromScan: !prefersScan)
  }

  /// An owed page that nobody could ask for later.
  var nextUnreadable: Int? {
    for range in unreadable {
      if let page = ledger?.firstOwed(atOrAfter: range.lowerBound), range.contains(page) {
        return page
      }
    }
    return nil
  }

  /// One at a time: they are a handful, if any.
  private mutating func pickUnreadable() -> PickedPages? {
    guard let number = nextUnreadable, let numbering = ledger?.numbering else { return nil }
    let block = numbering.block(of: number)
    let isZero = ledger?.isZero(number) ?? false
    var picked = PickedPages()
    _ = ledger?.take(number)
    if let place = pen.take(number), !isZero { picked.places.append(place) }
    picked.add(
      block: UInt16(truncatingIfNeeded: block), page: UInt64(number - numbering.bases[block]),
      isZero: isZero)
    return picked
  }

  private mutating func gather(fromScan: Bool) -> PickedPages? {
    guard var ledger else { return nil }
    // Uniquely held while it is changed: a copy of the bitmaps would cost megabytes.
    self.ledger = nil
    defer { self.ledger = ledger }
    var picked = PickedPages()
    var block = 0
    var expected = -1
    while let number = fromScan
      ? ledger.nextFresh() : ledger.nextDirty(colderThan: penIsFull ? 9 : holdBackHeat)
    {
      if number != expected { block = ledger.numbering.block(of: number) }
      let (isZero, isInline) = (ledger.isZero(number), !blockIsShared[block])
      guard picked.takes(isZero: isZero, isInline: isInline, continuing: number == expected)
      else { break }
      guard ledger.take(number) else { break }
      let place = isInline ? pen.take(number) : nil
      if let place, !isZero { picked.places.append(place) }
      // The reader's limit on blocks is below 2^16.
      picked.add(
        block: UInt16(truncatingIfNeeded: block),
        page: UInt64(number - ledger.numbering.bases[block]), isZero: isZero)
      expected = number + 1
    }
    picked.isScan = fromScan
    let count = picked.rawPages + picked.zeroPages
    guard count > 0 else { return nil }
    lead = ledger.owedCount == 0 ? 0 : max(lead - count, 0)
    scanLead += fromScan ? picked.weight * (1000 - scanPermille) : -picked.weight * scanPermille
    return picked
  }
}
