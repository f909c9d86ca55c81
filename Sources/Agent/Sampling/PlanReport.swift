import Strategy

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
    // What the destination has already costs processors more than the link: such a move says nothing of others, only of
    // processors (`PastKnownMove`).
    guard !record.pages.areMuchKnown else { return nil }
    (self.strategy, modelMs, actualMs) = (strategy, model, actual)
  }
}

/// A migration much of whose memory the destination had already: what such pages take there.
public struct PastKnownMove: Codable, Sendable, Equatable {
  /// Pages that the destination made of what it had, at least 1.
  public var knownPages: UInt64
  public var wireBytes, encodeMs, totalMs: UInt64

  /// Nil: not such a one, not completed, or something else took its time: disks, a pull, a broken connection.
  public init?(_ record: MigrationRecord) {
    guard record.outcome == .completed, record.pages.areMuchKnown, record.pull == nil,
      record.disk.movedBytes == nil, record.retries ?? 0 == 0,
      let wire = record.wireBytes, let encode = record.encodeMs, let total = record.totalMs,
      total > 0
    else { return nil }
    (knownPages, wireBytes, encodeMs, totalMs) = (record.pages.known, wire, encode, total)
  }
}

extension MigrationRecord.Pages {
  /// Pages that the destination made of what it had.
  fileprivate var known: UInt64 {
    [snapshot, vault, gang, disk].reduce(0 as UInt64) { $0.addingSaturating($1 ?? 0) }
  }

  /// More than one for eight that were sent.
  fileprivate var areMuchKnown: Bool { known > (raw ?? 0).addingSaturating(compressed ?? 0) / 8 }
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
  /// Those of them that brought much that the destination had, whether they were forecast or not, newest first; nil: an
  /// agent that doesn't say.
  public var earlierKnown: [PastKnownMove]?
  /// Disks that were asked for; nil: none.
  public var disks: [PlannedDisk]?

  init(vm: String, destination: String) { (self.vm, self.destination) = (vm, destination) }
}
