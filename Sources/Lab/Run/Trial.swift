public import Agent
public import Base

/// One migration of an experiment, and what was found about the guest afterwards.
public struct Trial: Sendable, Equatable {
  public var record: MigrationRecord
  /// Why the guest is not intact; empty when it is.
  public var damage: [String] = []
  /// Silence between the last heartbeat at the source and the first at the destination.
  public var heartbeatGapMs: UInt64?
  /// Of the clients'; nil without clients.
  public var brokenConnections: UInt64?
  /// Of all clients together, from the migration's start until they were watched no more; nil
  /// without clients.
  public var operationsPerSecond: UInt64?
  /// Full scans of its memory that the guest did after the move, without an error.
  public var scansAfter: UInt64?
  /// How fast the guest wrote memory before it was moved, in bytes per second; nil: too few beats.
  public var dirtyBytesPerSecond: UInt64?
  /// Nil where the guest has no work, or was hardly heard.
  public var throughput: GuestThroughput?
  /// Runs of the guest's kernel that ended with the published result after the move; nil: it has no kernel.
  public var kernelRunsAfter: UInt64?
  /// Of `operationsTimeline`.
  static let operationsBucketMs: UInt64 = 10
  /// Operations of the clients per bucket, from the migration's start on; nil without clients.
  public var operationsTimeline: [UInt64]?
  /// What the move cost both hosts, of all guests or disks together: in the first one's trial.
  public var cost: MoveCost?
  /// Nil where a guest was moved alone.
  public var together: Together?
  /// Of a disk that was moved alone.
  public var disk: DiskMeasures?
  /// What others got over the link beside the move; nil: there were none.
  public var competingBytesPerSecond: UInt64?
  /// What the migration said of itself while it ran.
  public var samples: [MigrationSample] = []

  public init(record: MigrationRecord) { self.record = record }

  /// The guest is sound, and where Godwit moved it, the migration completed; QEMU alone may fail.
  public var isGood: Bool {
    damage.isEmpty && (record.method == "qemu" || record.outcome == .completed)
  }
}

/// One look at a running migration, as results keep it.
public struct MigrationSample: Codable, Sendable, Equatable {
  public var phase: MigrationPhase
  public var elapsedMs, remainingBytes, wireBytes: UInt64
  @OrNull public var dirtyBytesPerSecond: UInt64?

  init(_ progress: MigrationProgress) {
    (phase, elapsedMs) = (progress.phase, progress.elapsedMs)
    (remainingBytes, wireBytes) = (progress.remainingBytes, progress.wireBytes)
    dirtyBytesPerSecond = progress.dirtyBytesPerSecond
  }
}

/// Passes everything on to an observer, and keeps the samples.
actor SampleKeeper: LabObserver {
  /// Kept; of more, every second one is dropped, again and again.
  static let sampleCountMax = 4000

  private let observer: any LabObserver
  private(set) var samples: [MigrationSample] = []

  init(_ observer: any LabObserver) { self.observer = observer }

  func note(_ text: String) async { await observer.note(text) }

  func progress(_ progress: MigrationProgress) async {
    if samples.count == Self.sampleCountMax {
      samples = stride(from: 0, to: samples.count, by: 2).map { samples[$0] }
    }
    samples.append(MigrationSample(progress))
    await observer.progress(progress)
  }
}
