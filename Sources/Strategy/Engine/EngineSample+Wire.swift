import Base

extension EngineSample {
  /// Milliseconds that the wire needs for so many pages; nil before a rate is known.
  public func milliseconds(forPages pages: UInt64) -> UInt64? {
    wireRate?.milliseconds(for: ByteCount(pages.scaled(by: wireBytesPerPage, over: 1)))
  }

  /// Pages that the wire carries in so many milliseconds; nil before a rate is known.
  public func pages(inMs ms: UInt64) -> UInt64? {
    wireRate.map {
      $0.bytesPerSecond.scaled(by: ms, over: 1000) / max(wireBytesPerPage, 1)
    }
  }

  /// Milliseconds until the destination's QEMU has what is on its way; nil before a rate is known.
  public var arrivalMs: UInt64? {
    wireRate.map { max($0.milliseconds(for: ByteCount(inFlightBytes)), applyingMs) }
  }

  /// How long the end of a pass waits for what is on its way, in milliseconds.
  static let drainMs: UInt64 = 500

  /// Whether the destination's QEMU has what is on its way but for `leftMs` milliseconds of it, or was waited for long
  /// enough since `sinceMs`: for `mostMs`. Before a rate is known it has to be waited for.
  func hasDrained(to leftMs: UInt64, sinceMs: UInt64, mostMs: UInt64 = drainMs) -> Bool {
    (arrivalMs ?? .max) <= leftMs || nowMs >= sinceMs.addingSaturating(mostMs)
  }

  /// Pages that QEMU has to write at its next look: dirtied since the last one, at the pace of that epoch, and at most as many
  /// as it dirtied; 0 before the first epoch has ended.
  var unreadPages: UInt64 {
    guard let epoch = lastEpoch, nowMs > epoch.endedMs else { return 0 }
    return min(
      epoch.dirtiedPages.scaled(by: nowMs - epoch.endedMs, over: max(epoch.lengthMs, 1)),
      epoch.dirtiedPages)
  }

  /// Owed, on its way, or dirtied meanwhile at the pace of the last epoch, as pages: the look that
  /// `ProgressEstimator` takes.
  public func progressSample(_ facts: EngineFacts) -> MigrationSample {
    let dirtied = lastEpoch.flatMap {
      ByteRate(
        bytesPerSecond: $0.dirtiedPages.scaled(by: wireBytesPerPage, over: 1)
          .scaled(by: 1000, over: max($0.lengthMs, 1)))
    }
    var sample = MigrationSample(
      nowMs: nowMs, ram: ByteCount(facts.ramPages.scaled(by: wireBytesPerPage, over: 1)),
      remaining: ByteCount(owedPages.scaled(by: wireBytesPerPage, over: 1)), dirtyRate: dirtied,
      pass: freshPages > 0 ? 1 : 2, wireRate: wireRate, inFlight: ByteCount(inFlightBytes))
    sample.growthPerSecond = lastEpoch.map {
      $0.newlyOwedPages.scaled(by: wireBytesPerPage, over: 1)
        .scaled(by: 1000, over: max($0.lengthMs, 1))
    }
    sample.unseen = ByteCount(
      StopForecast.unseenPages(self).scaled(by: wireBytesPerPage, over: 1))
    if isCostForetold { sample.contents = sample.remaining }
    return sample
  }
}
