/// Decides how much effort goes into batches: the least that gets the most pages over, given what the link
/// carries and what the workers can do.
///
/// With an effort, pages go at `workers × speed` or at `link rate ÷ size`, whichever is less. Both are
/// measured all the time, so a fast link or incompressible memory leads to `off`, and a slow link to as
/// much effort as the workers have time for.
///
/// Where processors are short (workers run for less than the time that they take), what packing takes is taken
/// from the guest. There an effort must win back on the wire at least the processor time that it costs.
public struct EffortController: Sendable, Equatable {
  /// What the workers did since the last decision. Times are of all workers together, in microseconds.
  public struct Interval: Sendable, Equatable {
    /// How long it was.
    public var elapsedUs: UInt64 = 0
    /// Wire bytes that were handed to the lanes, and the guest's memory that they are about; 0: not known.
    public var wireBytes: UInt64 = 0
    public var coveredBytes: UInt64 = 0
    /// The lanes had enough, and workers waited with a batch that was done.
    public var blockedUs: UInt64 = 0
    /// There was nothing to send, and workers waited for pages.
    public var idleUs: UInt64 = 0
    /// Workers packed, and how much of that time they had a processor.
    public var packingUs: UInt64 = 0
    public var processorUs: UInt64 = 0
    public init() {}
  }

  /// How often to decide, in milliseconds.
  public static let intervalMs: UInt64 = 100
  /// Without effort, one batch in so many is packed all the same, to see whether it would pay: more and more
  /// seldom as long as it doesn't.
  public static let probeBatches: ClosedRange<UInt64> = 8...256
  /// More effort must get so many more pages over, in thousandths.
  static let gainMinPermille: UInt64 = 30
  /// Workers that wait this share of their time for the lanes show that the link is the limit.
  static let linkBoundPermille: UInt64 = 100
  /// Workers that have a processor for less than this share of the time that they pack share it with others.
  static let processorPermille: UInt64 = 850

  /// Workers that pack, at least 1.
  public let workers: UInt64
  /// What pays at present; single batches may be probed with another (`next`).
  public private(set) var effort = Effort.lz4
  private let isFixed: Bool
  private let most: Effort
  private var model = EffortModel()
  private var link = LinkGuess()
  private var decision: UInt64 = 0
  private var sinceProbe: UInt64 = 0
  private var probeAfter = probeBatches.lowerBound
  /// Share of the packing time for which workers had a processor, in thousandths, in the last interval.
  private var processorShare: UInt64 = 1000

  /// - Parameters:
  ///   - fixed: what is used always; nil: what pays.
  ///   - most: more is never chosen, whatever it would get over.
  public init(workers: Int, fixed: Effort? = nil, upTo most: Effort = .zstd6) {
    (self.workers, isFixed, self.most) = (UInt64(max(workers, 1)), fixed != nil, most)
    if let fixed { effort = fixed }
  }

  /// The effort for the next batch.
  public mutating func next() -> Effort {
    guard effort == .off else { return effort }
    sinceProbe += 1
    guard sinceProbe >= probeAfter else { return .off }
    (sinceProbe, probeAfter) = (0, min(probeAfter * 2, Self.probeBatches.upperBound))
    return .lz4
  }

  /// A batch was packed; `busyUs` is the worker's time for it.
  public mutating func packed(
    _ effort: Effort, pageBytes: UInt64, wireBytes: UInt64, busyUs: UInt64
  ) {
    guard effort != .off else { return }
    model.note(
      effort, pageBytes: pageBytes, wireBytes: wireBytes, busyUs: busyUs, decision: decision)
  }

  /// Decides anew after an interval.
  public mutating func handle(_ interval: Interval) {
    guard !isFixed else { return }
    let time = workers.multipliedReportingOverflow(by: interval.elapsedUs)
    guard !time.overflow, interval.elapsedUs >= 1000, interval.wireBytes > 0 else { return }
    // Where QEMU or the strategy gives less than link and workers take, any effort is as fast.
    guard interval.idleUs < time.partialValue / 2 else { return }
    decision += 1
    if interval.packingUs > 0 {
      let had = min(interval.processorUs, interval.packingUs)
      processorShare = max(had * 1000 / interval.packingUs, 1)
    }
    func perSecond(_ bytes: UInt64) -> UInt64 {
      min(bytes, 1 << 40) * 1000 / (interval.elapsedUs / 1000)
    }
    link.note(
      perSecond(interval.wireBytes), covered: perSecond(interval.coveredBytes),
      isLimit: interval.blockedUs >= time.partialValue / 1000 * Self.linkBoundPermille)
    effort = best() ?? effort
    if effort != .off { probeAfter = Self.probeBatches.lowerBound }
  }

  private func best() -> Effort? {
    var best: (effort: Effort, rate: UInt64)?
    for candidate in Effort.allCases where candidate <= most {
      guard let rate = pageRate(candidate) else { continue }
      guard let current = best else {
        best = (candidate, rate)
        continue
      }
      if rate > current.rate + current.rate / 1000 * Self.gainMinPermille,
        processorShare >= Self.processorPermille || winsBack(candidate, over: current.effort)
      {
        best = (candidate, rate)
      }
    }
    return best?.effort
  }

  /// Whether the wire saves as much time as the processors spend, beside less effort.
  private func winsBack(_ effort: Effort, over less: Effort) -> Bool {
    guard let own = model.figures(effort, decision: decision),
      let other = model.figures(less, decision: decision), link.bytesPerSecond > 0
    else { return false }
    // In microseconds for 10^9 bytes of pages: below 2^53 each.
    let savedBytes =
      own.wirePermille < other.wirePermille ? other.wirePermille - own.wirePermille : 0
    let savedUs = savedBytes * 1_000_000 * 1000 / max(link.bytesPerSecond / 1000, 1)
    func processorUs(_ figures: EffortModel.Figures) -> UInt64 {
      1_000_000_000 / figures.bytesPerMs * processorShare
    }
    return savedUs >= processorUs(own) - min(processorUs(other), processorUs(own))
  }

  /// Page bytes a second that an effort would get over.
  func pageRate(_ effort: Effort) -> UInt64? {
    guard let figures = model.figures(effort, decision: decision) else { return nil }
    let perSecond = figures.bytesPerMs.multipliedReportingOverflow(by: 1000 * workers)
    let work = perSecond.overflow ? .max : perSecond.partialValue
    // Rates are below 2^53: a thousand times as much fits.
    return min(work, link.bytesPerSecond * 1000 / figures.wirePermille)
  }
}
