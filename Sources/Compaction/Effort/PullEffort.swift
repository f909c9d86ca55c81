/// How much effort goes into pages of a pull that nobody waits for yet: as for the copy whatever gets the most of them over
/// (`EffortController`), but no more than zstd's level 1, because the guest may come to wait for a page that is being
/// packed. Pure.
///
/// What shows that the link is the limit is another thing than in a copy. The destination asks for as much as keeps the
/// link busy (`PullPace`, `Strategy`) and little more, so lanes that have nothing to send wait for the link no less than those that
/// can't write. Where the processors are the limit, requests wait and the lanes never do.
public struct PullEffort: Sendable, Equatable {
  /// The most that is chosen.
  public static let most = Effort.zstd1

  /// A frame that was written, as its lane saw it. Times are instants in microseconds of any clock, rising.
  public struct Frame: Sendable, Equatable {
    /// The guest's memory that it is about, and what it is on the wire, in bytes.
    public var coveredBytes, wireBytes: UInt64
    /// The lane was done with the one before it; had this one to do; began to write it; had written it.
    public var idleFromUs, beganUs, writingFromUs, writtenUs: UInt64

    public init(
      coveredBytes: UInt64, wireBytes: UInt64, idleFromUs: UInt64, beganUs: UInt64,
      writingFromUs: UInt64, writtenUs: UInt64
    ) {
      (self.coveredBytes, self.wireBytes) = (coveredBytes, wireBytes)
      (self.idleFromUs, self.beganUs) = (idleFromUs, beganUs)
      (self.writingFromUs, self.writtenUs) = (writingFromUs, writtenUs)
    }
  }

  /// Lanes that may pack at the same time, at least 1.
  public let workers: Int
  private let lanes: Int
  private var controller: EffortController
  private var interval = EffortController.Interval()
  private var intervalBeganUs: UInt64
  /// In this interval lanes waited for the link, all together.
  private var waitedUs: UInt64 = 0
  /// What packing took so far, of all lanes together, in microseconds.
  public private(set) var busyUs: UInt64 = 0

  /// - Parameters:
  ///   - threads: that may pack at the same time, at least 1.
  ///   - lanes: that carry pages which are asked for ahead, at least 1.
  ///   - fixed: what is used always, as far as `most`; nil: what pays.
  public init(threads: Int, lanes: Int, fixed: Effort? = nil, nowUs: UInt64) {
    self.lanes = max(lanes, 1)
    workers = min(max(threads, 1), self.lanes)
    controller = EffortController(
      workers: workers, fixed: fixed.map { min($0, Self.most) }, upTo: Self.most)
    intervalBeganUs = nowUs
  }

  /// What is used at the moment, but for tries.
  public var effort: Effort { controller.effort }

  /// The effort for the next frame.
  public mutating func next() -> Effort { controller.next() }

  /// A frame's pages were packed.
  ///
  /// - Parameters:
  ///   - pageBytes: before; `packedBytes`: after that, at most as many.
  ///   - busyUs: how long it took; `processorUs`: for how long of that there was a processor.
  public mutating func packed(
    _ effort: Effort, pageBytes: UInt64, packedBytes: UInt64, busyUs: UInt64, processorUs: UInt64
  ) {
    guard effort != .off else { return }
    self.busyUs = self.busyUs &+ busyUs
    interval.packingUs = interval.packingUs &+ busyUs
    interval.processorUs = interval.processorUs &+ processorUs
    controller.packed(effort, pageBytes: pageBytes, wireBytes: packedBytes, busyUs: busyUs)
  }

  /// A frame was written: decides anew when that is due.
  public mutating func sent(_ frame: Frame) {
    // What it waited before this interval was counted by others, or says nothing of it.
    let idleUs = Self.span(max(frame.idleFromUs, intervalBeganUs), frame.beganUs)
    let writingUs = Self.span(max(frame.writingFromUs, intervalBeganUs), frame.writtenUs)
    waitedUs = waitedUs &+ idleUs &+ writingUs
    interval.wireBytes = interval.wireBytes &+ frame.wireBytes
    interval.coveredBytes = interval.coveredBytes &+ frame.coveredBytes
    interval.elapsedUs = Self.span(intervalBeganUs, frame.writtenUs)
    guard interval.elapsedUs >= EffortController.intervalMs * 1000 else { return }
    // Of as many lanes as may pack: the controller knows no others.
    interval.blockedUs = waitedUs / UInt64(lanes) * UInt64(workers)
    controller.handle(interval)
    (interval, waitedUs) = (EffortController.Interval(), 0)
    intervalBeganUs = frame.writtenUs
  }

  private static func span(_ from: UInt64, _ to: UInt64) -> UInt64 { to > from ? to - from : 0 }
}
