public import Base

/// The dirty log of one epoch: what the guest wrote between two looks at its dirty bitmap.
public struct EpochReport: Sendable, Hashable {
  /// Rises by one with each epoch, from 1.
  public var number: UInt64
  /// From when to when the pages were dirtied, in milliseconds on the samples' clock.
  public var beganMs, endedMs: UInt64
  /// Distinct pages dirtied: the writable working set of the epoch.
  public var dirtiedPages: UInt64
  /// Of these, fresh when they were found dirtied: so many left the scan without being sent by it.
  public var firstDirtiedPages: UInt64
  /// Of these, not owed when they were found dirtied: by so many pages the epoch made the debt larger.
  public var newlyOwedPages: UInt64

  /// Without `newlyOwedPages` all of them are taken to be newly owed.
  public init(
    number: UInt64, beganMs: UInt64, endedMs: UInt64, dirtiedPages: UInt64,
    firstDirtiedPages: UInt64 = 0, newlyOwedPages: UInt64? = nil
  ) {
    self.newlyOwedPages = newlyOwedPages ?? dirtiedPages
    (self.number, self.beganMs, self.endedMs) = (number, beganMs, endedMs)
    (self.dirtiedPages, self.firstDirtiedPages) = (dirtiedPages, firstDirtiedPages)
  }

  public var lengthMs: UInt64 { endedMs > beganMs ? endedMs - beganMs : 0 }
}

/// One look at a running migration through the page ledger: what every strategy decides from.
///
/// A page is *fresh* while it was neither sent nor dirtied since the start, *owed* while the
/// destination lacks its current version, as far as the dirty log was read. Its *heat* is the number of
/// the last 8 epochs in which it was dirtied, `0...8`.
public struct EngineSample: Sendable, Hashable {
  /// Milliseconds on a monotonic clock; the migration began at `beganMs` on the same clock.
  public var nowMs, beganMs: UInt64
  /// Fresh pages left: the scan's way to go.
  public var freshPages: UInt64
  /// Owed pages that were dirtied since the start, by heat `0...8`; held ones are among them.
  public var dirtyOwedByHeat: [UInt64]
  /// Pages sent so far, repeats included, and versions that were replaced before they were sent, those
  /// of fresh pages among them.
  public var sentPages, supersededPages: UInt64
  /// Wire bytes that one owed page costs, as measured lately (zero pages and compression lower it).
  public var wireBytesPerPage: UInt64
  /// Whether that cost is of the pages still owed, as far as a sample can tell, not of those sent lately.
  public var isCostForetold: Bool
  /// What the destination applied lately, per second; nil before the first measurement.
  public var wireRate: ByteRate?
  /// Sent or queued, not applied yet.
  public var inFlightBytes: UInt64
  /// Milliseconds that the destination's QEMU needs for the pages among that, which may have next to no bytes: zeros, and
  /// what packs well; 0 also where that is not known.
  public var applyingMs: UInt64
  /// The last epoch that is complete.
  public var lastEpoch: EpochReport?
  /// The dirty log is being read: an epoch ends with it.
  public var isCollecting: Bool

  /// A look at a migration that has sent nothing yet and knows no rate; a page costs 4096 wire
  /// bytes. The rest is set by whoever knows it.
  public init(nowMs: UInt64, beganMs: UInt64, freshPages: UInt64) {
    (self.nowMs, self.beganMs, self.freshPages) = (nowMs, beganMs, freshPages)
    dirtyOwedByHeat = Array(repeating: 0, count: 9)
    (sentPages, supersededPages, inFlightBytes, applyingMs) = (0, 0, 0, 0)
    wireBytesPerPage = UInt64(Page.size)
    (isCollecting, isCostForetold) = (false, false)
  }

  public var elapsedMs: UInt64 { nowMs > beganMs ? nowMs - beganMs : 0 }

  /// Owed pages that were dirtied since the start.
  public var dirtyOwedPages: UInt64 {
    dirtyOwedByHeat.reduce(0) { $0.addingSaturating($1) }
  }

  /// Everything that the destination lacks.
  public var owedPages: UInt64 { freshPages.addingSaturating(dirtyOwedPages) }

  /// Dirty owed pages whose heat is below `heat`.
  public func dirtyOwedPages(colderThan heat: UInt8) -> UInt64 {
    dirtyOwedByHeat.prefix(Int(heat)).reduce(0) { $0.addingSaturating($1) }
  }
}
