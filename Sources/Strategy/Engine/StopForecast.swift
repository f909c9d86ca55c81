import Base

/// The pause if the guest were stopped now, or after a while. Pure.
///
/// The stop set is what the ledger owes, what is on its way, and what the guest has dirtied since the
/// dirty log was last read; the last is foretold from the last epoch. A guest that is told to stop and does so later
/// dirties more until then, and some of what is owed is sent.
public struct StopForecast: Sendable, Hashable {
  /// Pages that are sent while the guest is stopped.
  public var pages: UInt64
  /// Bytes these cost, with those in flight.
  public var bytes: UInt64
  /// Milliseconds of pause; nil before a rate is known.
  public var downtimeMs: UInt64?

  /// - Parameter delayMs: from the sample until the guest stands still.
  public init(_ sample: EngineSample, _ facts: EngineFacts, delayMs: UInt64 = 0) {
    var later = sample
    later.nowMs = sample.nowMs.addingSaturating(delayMs)
    let all = min(sample.owedPages.addingSaturating(Self.unseenPages(later)), facts.ramPages)
    pages = all.minusFloored(sample.pages(inMs: delayMs) ?? 0)
    bytes = pages.scaled(by: sample.wireBytesPerPage, over: 1).addingSaturating(
      sample.inFlightBytes)
    // The destination takes what it has while the rest is on its way.
    let applyingMs = sample.applyingMs.minusFloored(delayMs)
    let sendingMs = sample.wireRate?.milliseconds(for: ByteCount(bytes))
    downtimeMs = sendingMs.map { max($0, applyingMs).addingSaturating(facts.pauseOverheadMs) }
  }

  /// The pause of a guest that moves before its memory: what is on its way, and nothing of what is owed.
  public init(pulling sample: EngineSample, _ facts: EngineFacts) {
    (pages, bytes) = (0, sample.inFlightBytes)
    downtimeMs = sample.arrivalMs?.addingSaturating(facts.pauseOverheadMs)
  }

  /// Pages dirtied since the last epoch ended that were not owed already: at the pace of that epoch, and at
  /// most as many as it dirtied. A page that is owed costs nothing more when it is written again.
  ///
  /// Two reckonings, the larger one counts: the pace at which the epoch made the debt larger, which says too
  /// little once what was owed then has been sent; and all that it dirtied, less the share that is owed now.
  static func unseenPages(_ sample: EngineSample) -> UInt64 {
    guard let epoch = sample.lastEpoch, sample.nowMs > epoch.endedMs else { return 0 }
    let (sinceMs, lengthMs) = (sample.nowMs - epoch.endedMs, max(epoch.lengthMs, 1))
    let growth = min(epoch.newlyOwedPages.scaled(by: sinceMs, over: lengthMs), epoch.dirtiedPages)
    let clean = epoch.dirtiedPages.minusFloored(sample.dirtyOwedPages)
    return max(growth, sample.unreadPages.scaled(by: clean, over: max(epoch.dirtiedPages, 1)))
  }
}
