import Base
import HostIO
import Strategy

/// A strategy at work on a running migration: what the ledger, the lanes and QEMU say becomes samples,
/// and the dirty log's epochs are told apart.
///
/// An epoch of the dirty log is what QEMU's stream carries between two of its looks at the dirty bitmap.
/// Between epochs the gate is closed and QEMU blocks in a pass; to collect one, the gate opens until the
/// rest of that pass, one whole pass and one more look are through.
///
/// Before 8.1 nothing but the closed gate holds QEMU: at each look at its dirty bitmap it stops the guest if
/// what is left fits its limit of 1 ms at the bandwidth that it has seen. So the first pass goes at the pace of the
/// link to its end, and then QEMU is told to write no faster than the link carries: only a guest that is all but
/// idle is stopped by QEMU, with little owed.
struct EngineRun: Sendable {
  /// How often QEMU is asked while an epoch is collected, in milliseconds.
  static let collectingIntervalMs: UInt64 = 4
  /// What QEMU is told to reckon with until the stop: with a limit of 1 ms it looks at the dirty bitmap
  /// anew when 1 MB is left.
  static let pinnedBytesPerSecond: UInt64 = 1_000_000_000
  /// The largest downtime limit QEMU takes: everything fits, it stops the guest at once.
  static let unlimitedMs: UInt64 = 2_000_000
  /// The least that QEMU may write in a second where that is what holds it.
  private static let limitedBytesPerSecond: UInt64 = 32 << 20
  /// How long the link is looked at before its rate is believed, in milliseconds.
  private static let judgeAfterMs: UInt64 = 400

  private struct Collection {
    let beganMs: UInt64
    /// QEMU's first pass was over; its rest takes as long as the link needs, and says nothing of a stop.
    let isAfterFirstPass: Bool
    /// Looks at the dirty bitmap that end it.
    let untilSync: UInt64
    /// When the look was seen that the epoch ends with.
    var boundaryMs: UInt64?
  }

  private(set) var machine: DeadlineGuard
  /// QEMU waits for our word with the switchover (8.1 and later).
  let holdsByAck: Bool
  /// QEMU was told how fast it may write, where that is what holds it.
  private var isLimited = false
  let facts: EngineFacts
  private let beganMs: UInt64
  private var collection: Collection?
  private var lastEpoch: EpochReport?
  /// How long QEMU took to the end of its pass when it was last let go, in milliseconds: so long it takes to stop
  /// the guest once it is told to.
  private(set) var stopDelayMs: UInt64 = 0
  /// When the epoch that runs began.
  private var epochBeganMs: UInt64
  private var lastSync: UInt64 = 0
  private var costs = PageCosts()
  /// What the destination has, as it crossed the wire.
  private var arrivedBytes: UInt64 = 0
  private var packing: (pageBytes: UInt64, wireBytes: UInt64) = (1, 1)
  /// The strategy has said how the migration ends.
  var isEnding = false

  /// Whether the user's time was held against the first rate that can be believed.
  private var isJudged = false
  /// Whether the strategy's own bound was announced.
  private var hasAnnounced = false
  /// Where zeros lie in the guest's RAM; nil: nobody looked.
  private let contents: ContentProfile?
  private let firstLookMs: UInt64

  init(
    _ machine: DeadlineGuard, _ facts: EngineFacts, holdsByAck: Bool, beganMs: UInt64,
    nowMs: UInt64, contents: ContentProfile?
  ) {
    (self.machine, self.facts, self.holdsByAck) = (machine, facts, holdsByAck)
    (self.beganMs, epochBeganMs, firstLookMs) = (beganMs, nowMs, nowMs)
    self.contents = contents
  }

  /// Whether the link has to be looked at for longer before the user's time can be judged; the strategy
  /// waits meanwhile, for it would stop the guest at once when the time is short.
  mutating func isMeasuring(_ constraints: MigrationConstraints, _ sample: EngineSample) -> Bool {
    guard constraints.withinMs != nil, !isJudged else { return false }
    machine.noteRate(sample)
    return sample.nowMs < firstLookMs + Self.judgeAfterMs
  }

  /// Why the user's time cannot be kept, said once: as soon as the link's rate is known and before much
  /// was sent. Nil: it can, or nothing is known yet.
  mutating func refusal(_ constraints: MigrationConstraints, _ sample: EngineSample) -> String? {
    guard !isJudged, let rate = machine.believedRate ?? sample.wireRate else { return nil }
    isJudged = true
    let forecast = StartForecast(
      machine.name, constraints, facts, rate: rate, wireBytesPerPage: expectedCost(sample),
      elapsedMs: sample.elapsedMs, arrivedBytes: arrivedBytes)
    return forecast.refusal
  }

  /// The time from the request until the guest runs at the destination that the strategy promises, in milliseconds: said
  /// once, as soon as the link's rate is known. Nil: it promises none, or has said so.
  mutating func announcedBound(
    _ constraints: MigrationConstraints, _ sample: EngineSample
  ) -> UInt64? {
    guard machine.name == .timebound, !hasAnnounced,
      sample.nowMs >= firstLookMs + Self.judgeAfterMs,
      // A promise: as large as pages are, whatever the first ones were packed to.
      let rate = machine.believedRate ?? sample.wireRate, let cost = scannedCost
    else { return nil }
    hasAnnounced = true
    let boundMs = TimeBound.boundMs(facts, rate: rate, wireBytesPerPage: cost)
    let beforeMs = firstLookMs.minusFloored(beganMs)
    return min(beforeMs.addingSaturating(boundMs), constraints.withinMs ?? .max)
  }

  /// Bytes that a page of all of RAM will cost on the wire, on average.
  private func expectedCost(_ sample: EngineSample) -> UInt64 {
    // As small as they are made at the rate that was measured.
    scannedCost?.scaled(by: packing.wireBytes, over: packing.pageBytes) ?? sample.wireBytesPerPage
  }

  /// Bytes that a page of all of RAM has, zeros left out; nil: nobody looked.
  private var scannedCost: UInt64? {
    contents.map {
      max(
        $0.contentPages(from: 0, of: facts.ramPages).scaled(
          by: UInt64(Page.size), over: max(facts.ramPages, 1)), 1)
    }
  }

  var isCollecting: Bool { collection != nil }
  var name: StrategyName { machine.acting }

  /// Begins to collect an epoch.
  mutating func collect(_ ledger: SourceLedger, nowMs: UInt64) {
    guard collection == nil else { return }
    collection = Collection(
      beganMs: nowMs, isAfterFirstPass: lastSync >= 2, untilSync: max(lastSync, 1) + 2,
      boundaryMs: nil)
    if holdsByAck || lastSync >= 2 { ledger.setGate(.open) }
  }

  /// The rate to hold QEMU to, once, when its first pass is over; nil: none, or not now.
  mutating func limitOnce(_ sample: EngineSample) -> UInt64? {
    guard !holdsByAck, !isLimited, lastSync >= 2, let rate = sample.wireRate else { return nil }
    isLimited = true
    return max(rate.bytesPerSecond, Self.limitedBytesPerSecond)
  }

  /// QEMU has looked at its dirty bitmap `syncCount` times. Says whether an epoch ended.
  mutating func noteSync(_ syncCount: UInt64, nowMs: UInt64, _ ledger: SourceLedger) -> Bool {
    let firstPassIsOver = lastSync < 2 && syncCount >= 2
    lastSync = max(lastSync, syncCount)
    guard !isEnding else { return false }
    guard var current = collection else {
      // The first pass goes at the pace of the link; then nothing is read until it is asked for.
      if syncCount >= 2 { ledger.setGate(.closed) }
      return false
    }
    if firstPassIsOver { ledger.setGate(.open) }
    if current.boundaryMs == nil, syncCount + 1 >= current.untilSync {
      current.boundaryMs = nowMs
      if current.isAfterFirstPass { stopDelayMs = nowMs - min(current.beganMs, nowMs) }
    }
    guard syncCount >= current.untilSync else {
      collection = current
      return false
    }
    ledger.setGate(.closed)
    let counts = ledger.endEpoch()
    let endedMs = current.boundaryMs ?? nowMs
    lastEpoch = EpochReport(
      number: (lastEpoch?.number ?? 0) + 1, beganMs: epochBeganMs, endedMs: endedMs,
      dirtiedPages: UInt64(counts.dirtied), firstDirtiedPages: UInt64(counts.first),
      newlyOwedPages: UInt64(counts.newlyOwed))
    (collection, epochBeganMs) = (nil, endedMs)
    return true
  }

  /// The migration as it is now.
  mutating func sample(
    nowMs: UInt64, _ ledger: SourceLedger, _ queue: SendQueue
  ) -> EngineSample {
    let flow = queue.snapshot
    packing = flow.counters.packing
    arrivedBytes = flow.counters.wireBytes.minusFloored(flow.inFlight)
    let isFirstPass = lastSync < 2
    var (unread, zero): (UInt64, UInt64) = (0, 0)
    var sample = ledger.state.read { state -> EngineSample in
      unread =
        isFirstPass ? facts.ramPages.minusFloored(UInt64(state.ledger?.mentionedCount ?? 0)) : 0
      zero = UInt64(state.ledger?.freshZeroCount ?? 0)
      var sample = EngineSample(
        nowMs: nowMs, beganMs: beganMs, freshPages: UInt64(state.ledger?.freshCount ?? 0) + unread)
      sample.dirtyOwedByHeat = state.ledger?.dirtyByHeat() ?? sample.dirtyOwedByHeat
      sample.sentPages = state.ledger?.takenCount ?? 0
      sample.supersededPages = state.ledger?.supersededCount ?? 0
      return sample
    }
    costs.note(flow.counters, isScan: sample.freshPages > 0)
    // After the scan what is owed is what the guest has written.
    sample.wireBytesPerPage = sample.freshPages > 0 ? costs.perPage : costs.perDirtiedPage
    if let cost = foretoldCost(sample, unread: unread, zero: zero) {
      (sample.wireBytesPerPage, sample.isCostForetold) = (cost, true)
    }
    sample.wireRate = flow.rate
    sample.inFlightBytes =
      flow.inFlight + flow.queuedBytes.scaled(by: packing.wireBytes, over: packing.pageBytes)
    sample.applyingMs = flow.applyingMs
    sample.lastEpoch = lastEpoch
    sample.isCollecting = isCollecting
    return sample
  }

  /// What a page that is owed during the scan will cost, on average; nil: nobody looked.
  ///
  /// - Parameters:
  ///   - unread: pages that the stream has not come to.
  ///   - zero: pages that it has come to, are not sent yet, and are all zeros.
  private func foretoldCost(_ sample: EngineSample, unread: UInt64, zero: UInt64) -> UInt64? {
    guard let contents, sample.freshPages > 0 else { return nil }
    let full =
      contents.contentPages(from: facts.ramPages - unread, of: facts.ramPages)
      + sample.owedPages.minusFloored(unread + zero)
    let dirtied = min(sample.dirtyOwedPages, full)
    let bytes = (full - dirtied).scaled(by: costs.perWrittenPage, over: 1)
      .addingSaturating(dirtied.scaled(by: costs.perDirtiedPage, over: 1))
    return max(bytes / max(sample.owedPages, 1), 1)
  }

  mutating func handle(_ sample: EngineSample) -> [EngineEffect] { machine.handle(sample) }
}
