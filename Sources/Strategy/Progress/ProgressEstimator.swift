public import Base

/// Percentage and time to the end of a pre-copy, as honest as its samples. Pure.
///
/// The percentage never runs backwards: the bulk pass is its first 90 %, and later passes move it
/// on only when less is left than ever before. In the bulk pass nobody knows yet what it will leave
/// dirty: then the band is open above. There is no ETA while the guest dirties memory as
/// fast as the link carries it: then there is no end to name.
public struct ProgressEstimator: Sendable, Equatable {
  /// Share of the bulk pass, in thousandths.
  static let bulkPermille: UInt64 = 900

  /// Thousandths done; never falls.
  public private(set) var permille: UInt64 = 0
  /// Milliseconds to the end; nil while nothing honest can be said.
  public private(set) var etaMs: UInt64?
  /// How sure that is.
  public private(set) var band = EtaBand()
  /// When the pause is to end, on the clock of the samples.
  private var pauseEndMs: UInt64?
  private var pull = PullEta()
  private var first: (nowMs: UInt64, remaining: UInt64)?
  /// Least that was left at a look in a later pass, in bytes.
  private var leastRemaining: UInt64?

  /// What the guest dirties in a pass.
  public private(set) var workingSet = WorkingSet()
  private var passBegan: (pass: UInt64, atMs: UInt64)?
  /// The longest pause that the guest is to be given, in milliseconds; nil: not known.
  private let downtimeLimitMs: UInt64?

  /// - Parameter downtimeLimitMs: longest pause that the guest is to be given; nil: not known, and
  ///   the bulk pass' ETA has no pause in it.
  public init(downtimeLimitMs: UInt64? = nil) { self.downtimeLimitMs = downtimeLimitMs }

  public static func == (a: Self, b: Self) -> Bool {
    a.permille == b.permille && a.etaMs == b.etaMs && a.band == b.band
      && a.pauseEndMs == b.pauseEndMs && a.pull == b.pull && a.workingSet == b.workingSet
      && a.downtimeLimitMs == b.downtimeLimitMs && a.passBegan?.pass == b.passBegan?.pass
      && a.passBegan?.atMs == b.passBegan?.atMs && a.leastRemaining == b.leastRemaining
      && a.first?.nowMs == b.first?.nowMs && a.first?.remaining == b.first?.remaining
  }

  /// Takes a look while the guest runs at the source.
  ///
  /// - Parameter expectedDowntimeMs: what the pause would take, which is added to the ETA once the
  ///   bulk pass is over, up to the limit; nil: not known.
  public mutating func handle(_ sample: MigrationSample, expectedDowntimeMs: UInt64?) {
    defer {
      let isOpen = sample.pass <= 1 && sample.dirtyRate == nil
      band.note(nowMs: sample.nowMs, etaMs: etaMs, isOpenAbove: isOpen)
    }
    workingSet.handle(sample)
    if passBegan?.pass != sample.pass { passBegan = (sample.pass, sample.nowMs) }
    let ram = max(sample.ram.bytes, 1)
    let remaining = min(sample.remaining.bytes, ram)
    if sample.pass <= 1 {
      if first == nil { first = (sample.nowMs, remaining) }
      let done = ram - remaining
      raise(to: done.scaled(by: Self.bulkPermille, over: ram))
      etaMs = bulkEtaMs(sample, remaining)
      return
    }
    let least = min(leastRemaining ?? ram, remaining)
    leastRemaining = least
    let left = least.scaled(by: 1000 - Self.bulkPermille, over: ram)
    raise(to: 999 - min(left, 99))
    let owed = remaining.addingSaturating(sample.unseen?.bytes ?? unseen(sample))
    etaMs = convergenceMs(sample, owed).map {
      $0.addingSaturating(min(expectedDowntimeMs ?? 0, downtimeLimitMs ?? .max))
    }
  }

  /// The guest is stopped: only the pause is left.
  public mutating func switchingOver(nowMs: UInt64, expectedDowntimeMs: UInt64?) {
    raise(to: 999)
    pauseEndMs = expectedDowntimeMs.map { nowMs.addingSaturating($0) }
    stopped(nowMs: nowMs)
  }

  /// Time passes while the guest is stopped. A pause that lasts longer than expected has no end that
  /// could be named.
  public mutating func stopped(nowMs: UInt64) {
    etaMs = pauseEndMs.flatMap { $0 >= nowMs ? $0 - nowMs : nil }
    band.note(nowMs: nowMs, etaMs: etaMs)
  }

  /// The guest runs at the destination and is given the rest of its memory.
  ///
  /// - Parameter linkRate: what the link carries, believed until the pull has a pace of its own.
  public mutating func pulling(_ look: PullEta.Look, linkRate: ByteRate?, nowMs: UInt64) {
    raise(to: 999)
    pull.note(look, linkRate: linkRate, nowMs: nowMs)
    etaMs = pull.etaMs
    // A wait says nothing of the ends that were foretold before it.
    guard pull.waitedMs == nil else { return band = EtaBand() }
    band.note(nowMs: nowMs, etaMs: etaMs)
  }

  /// Milliseconds for which a pull has waited for its connection; nil: it doesn't.
  public var waitedMs: UInt64? { pull.waitedMs }

  /// The guest runs at the destination with all of its memory: the only way to 1000 thousandths.
  public mutating func finished() {
    permille = 1000
    etaMs = 0
    (band, pull) = (EtaBand(), PullEta())
  }

  private mutating func raise(to value: UInt64) { permille = max(permille, min(value, 999)) }

  /// The rest of the bulk pass, then the passes that the dirtying of that time causes, down to the pause.
  private func bulkEtaMs(_ sample: MigrationSample, _ remaining: UInt64) -> UInt64? {
    guard let bulkMs = bulkMs(sample, remaining) else { return nil }
    let pauseMs = downtimeLimitMs ?? 0
    // How much it leaves dirty nobody knows yet; that the guest will be stopped is known.
    guard let rate = sample.wireRate, let growth = Self.growth(sample) else {
      return bulkMs.addingSaturating(pauseMs)
    }
    let left = rate.bytesPerSecond.scaled(by: bulkMs, over: 1000)
    return convergenceMs(rate, growth, left).map { $0.addingSaturating(pauseMs) }
  }

  /// The rest of the bulk pass: what is no zeros at the link's rate where that is known, else at the average
  /// speed so far, which knows zero pages as far as they are spread evenly.
  private func bulkMs(_ sample: MigrationSample, _ remaining: UInt64) -> UInt64? {
    if let contents = sample.contents, let rate = sample.wireRate {
      return rate.milliseconds(
        for: ByteCount(contents.bytes.addingSaturating(sample.inFlight.bytes)))
    }
    guard let first, sample.nowMs > first.nowMs, first.remaining > remaining else { return nil }
    return remaining.scaled(by: sample.nowMs - first.nowMs, over: first.remaining - remaining)
  }

  /// What was dirtied since QEMU last looked, and will be seen at its next look, in bytes.
  private func unseen(_ sample: MigrationSample) -> UInt64 {
    guard let dirty = sample.dirtyRate, let passBegan, sample.nowMs > passBegan.atMs else {
      return 0
    }
    let bytes = dirty.bytesPerSecond.scaled(by: sample.nowMs - passBegan.atMs, over: 1000)
    return min(bytes, workingSet.bytes ?? sample.ram.bytes)
  }

  private func convergenceMs(_ sample: MigrationSample, _ left: UInt64) -> UInt64? {
    guard let rate = sample.wireRate else { return nil }
    return convergenceMs(rate, Self.growth(sample) ?? 0, left)
  }

  /// In bytes a second; nil: not known.
  private static func growth(_ sample: MigrationSample) -> UInt64? {
    sample.growthPerSecond ?? sample.dirtyRate?.bytesPerSecond
  }

  /// Until what is left fits the pause. Passes shrink by dirty/wire each, so `n` bytes go in
  /// `n / (wire - dirty)`; nil: they never do.
  private func convergenceMs(_ rate: ByteRate, _ growth: UInt64, _ left: UInt64) -> UInt64? {
    let limit = rate.bytesPerSecond.scaled(by: downtimeLimitMs ?? 0, over: 1000)
    guard left > limit else { return 0 }
    guard rate.bytesPerSecond > growth else { return nil }
    return ByteRate(bytesPerSecond: rate.bytesPerSecond - growth)?
      .milliseconds(for: ByteCount(left - limit))
  }
}

extension UInt64 {
  /// `self * factor / divisor` without overflow on the way; saturates. `divisor` is not 0.
  public func scaled(by factor: UInt64, over divisor: UInt64) -> UInt64 {
    let product = multipliedFullWidth(by: factor)
    guard product.high < divisor else { return .max }
    return divisor.dividingFullWidth(product).quotient
  }
}
