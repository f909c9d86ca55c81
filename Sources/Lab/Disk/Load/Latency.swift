public import Base

/// How long requests took in a stretch of time, and how many there were. Pure.
public struct Latency: Codable, Sendable, Equatable {
  /// One request that was answered.
  struct Request: Sendable, Equatable {
    /// When its answer came, in microseconds of the monotonic clock.
    var endUs: UInt64
    var tookUs: UInt32
  }

  public var requests: UInt64
  public var perSecond: UInt64
  /// Half of them, and 99 of 100, took no longer, in microseconds.
  public var medianUs, tailUs: UInt64

  /// Of those that were answered in `[fromUs, toUs)`; nil without any.
  init?(_ all: [Request], fromUs: UInt64, toUs: UInt64) {
    let times = all.filter { $0.endUs >= fromUs && $0.endUs < toUs }.map(\.tookUs).sorted()
    guard !times.isEmpty, toUs > fromUs else { return nil }
    requests = UInt64(times.count)
    perSecond = Ratio.scale(requests, 1_000_000, over: toUs - fromUs)
    medianUs = UInt64(times[(times.count - 1) / 2])
    tailUs = UInt64(times[(times.count * 99 + 99) / 100 - 1])
  }
}

/// What a served disk's clients saw of its move.
public struct DiskMeasures: Codable, Sendable, Equatable {
  public var diskBytes: UInt64
  @OrNull public var deviceOperationsPerSecond: UInt64?
  @OrNull public var deviceBytesPerSecond: UInt64?
  /// Of the clients' requests before the move, and from its beginning until both sides were the same.
  @OrNull public var before: Latency?
  @OrNull public var during: Latency?
  /// Reads that gave something else than what was written last.
  public var wrongReads: UInt64 = 0
  /// Rounds of the copier, and what backups gave in place of the disk; Godwit alone says so.
  @OrNull public var rounds: UInt64?
  @OrNull public var backupBytes: UInt64?
  /// What an older copy at the destination had already.
  @OrNull public var skippedBytes: UInt64?
  /// Nil where the disk was served at the source until both sides were the same.
  @OrNull public var pull: Pull?
  /// Of `waio`, once it has copied the original; nil: it hasn't, or there is no surrogate.
  @OrNull public var phases: Phases?
  /// `hdd`: a drive with a head; nil: of another kind, or of an earlier version.
  @OrNull public var device: String?

  /// `during` in two parts: until the original was copied, and while what the surrogate had was.
  public struct Phases: Codable, Sendable, Equatable {
    @OrNull public var original: Latency?
    @OrNull public var surrogate: Latency?

    init(original: Latency?, surrogate: Latency?) {
      (self.original, self.surrogate) = (original, surrogate)
    }
  }

  /// How a disk was served at the destination before its data were there.
  public struct Pull: Codable, Sendable, Equatable {
    /// From the beginning of the move until clients were served there, in milliseconds.
    public var servedMs: UInt64
    /// Requests that waited for the source, and how long, in microseconds: on average, and the longest.
    public var faults: UInt64
    @OrNull public var faultMeanUs: UInt64?
    @OrNull public var faultMaxUs: UInt64?

    init(_ served: MovedDisk.Served, startUs: UInt64) {
      servedMs = (served.fromUs - min(startUs, served.fromUs)) / 1000
      (faults, faultMeanUs, faultMaxUs) = (served.faults, served.faultMeanUs, served.faultMaxUs)
    }
  }

  init(_ disk: MatrixDisk) {
    diskBytes = disk.byteCount
    deviceOperationsPerSecond = disk.deviceOperationsPerSecond
    deviceBytesPerSecond = disk.deviceBytesPerSecond
    device = disk.hasHead ? "hdd" : nil
  }

  var isOfThrottledDevice: Bool { deviceOperationsPerSecond != nil || deviceBytesPerSecond != nil }

  /// Requests per second that clients lacked during the move, in percent; below 0 there were more. Nil: not measured.
  public var slowdownPercent: Int? { slowdown(perSecond: during?.perSecond ?? 0) }

  /// The same of the phase that was worse for the clients; nil: there were none.
  public var phaseSlowdownPercent: Int? {
    phases.flatMap { phases in
      [phases.original, phases.surrogate].compactMap(\.self).compactMap {
        slowdown(perSecond: $0.perSecond)
      }.max()
    }
  }

  /// What 99 of 100 requests took in the phase that was worse, in percent of what they took before the move.
  public var phaseTailPercent: UInt64? {
    guard let before, before.tailUs > 0, let phases else { return nil }
    return [phases.original, phases.surrogate].compactMap(\.self).map {
      Ratio.scale($0.tailUs, 100, over: before.tailUs)
    }.max()
  }

  private func slowdown(perSecond: UInt64) -> Int? {
    guard let before, before.perSecond > 0 else { return nil }
    return 100 - Int(clamping: Ratio.scale(perSecond, 100, over: before.perSecond))
  }
}
