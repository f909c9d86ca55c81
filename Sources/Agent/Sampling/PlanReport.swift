/// The link to a destination, as a short burst found it.
public struct LinkSample: Codable, Sendable, Equatable {
  /// What arrived per second, all lanes together.
  public var bytesPerSecond: UInt64
  /// There and back on a quiet connection, in microseconds.
  public var roundTripUs: UInt64
  /// Connections that shared the burst, bytes of it that were counted, and how long it took.
  public var lanes, bytes, durationMs: UInt64
}

/// What a model said of a migration's total time, and what it was.
public struct PastForecast: Codable, Sendable, Equatable {
  /// A `StrategyName`.
  public var strategy: String
  /// Both at least 1.
  public var modelMs, actualMs: UInt64

  /// Nil: not forecast, not completed, or much of it was at the destination before.
  public init?(_ record: MigrationRecord) {
    guard record.outcome == .completed, let strategy = record.strategy,
      let model = record.forecast.modelTotalMs, let actual = record.totalMs, model > 0, actual > 0
    else { return nil }
    // What the destination has already costs processors more than the link, and the model knows of the link alone: such a
    // move says nothing of others.
    let pages = record.pages
    let known =
      (pages.snapshot ?? 0) + (pages.vault ?? 0) + (pages.gang ?? 0) + (pages.disk ?? 0)
    let sent = (pages.raw ?? 0) + (pages.compressed ?? 0)
    guard known <= sent / 8 else { return nil }
    (self.strategy, modelMs, actualMs) = (strategy, model, actual)
  }
}

/// A disk that would move with the guest.
public struct PlannedDisk: Codable, Sendable, Equatable {
  public var name: String
  /// Where it would come to lie.
  public var path: String
  /// Bytes the guest can address, and bytes that its image takes here; nil: not known.
  public var bytes: UInt64
  public var takenBytes: UInt64?
  /// Both hosts have it, so that nothing would be copied.
  public var isShared: Bool
}

/// What an agent found out for `godwit plan`: all that a forecast needs.
public struct PlanReport: Codable, Sendable, Equatable {
  public var vm: String
  public var destination: String
  /// Why a migration would not begin; then nothing else is known. Empty: it would, as far as can be known
  /// without starting a QEMU at the destination.
  public var refusals: [Refusal] = []
  public var qemu: String?
  public var guest: GuestSample?
  public var link: LinkSample?
  public var vcpuCount: UInt64 = 1
  /// Cores of this host; nil: not known.
  public var hostCores: UInt64?
  /// The destination can run the guest before its memory is there.
  public var canPull = false
  /// Of migrations to the same destination, newest first.
  public var earlier: [PastForecast] = []
  /// Disks that were asked for; nil: none.
  public var disks: [PlannedDisk]?

  init(vm: String, destination: String) { (self.vm, self.destination) = (vm, destination) }
}
