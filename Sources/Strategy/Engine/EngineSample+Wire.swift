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
