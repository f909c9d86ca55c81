/// The result of one migration: what `migrate --json` prints, `history` lists and the lab collects.
///
/// What was not measured is nil and printed as `null`, never 0.
public struct MigrationRecord: Codable, Sendable, Equatable {
  public enum Outcome: String, Codable, Sendable { case completed, failed, cancelled, refused }

  public struct Versions: Codable, Sendable, Equatable {
    public var source: String?
    public var destination: String?
    public init(source: String? = nil, destination: String? = nil) {
      (self.source, self.destination) = (source, destination)
    }
  }
  /// Pages by the way they crossed the network.
  public struct Pages: Codable, Sendable, Equatable {
    /// `snapshot`: held at the destination at the same place. `vault`: at another, or in another guest's snapshot; nil where
    /// there was none.
    public var zero, uniform, raw, compressed, delta, duplicate, snapshot, vault, disk: UInt64?
    /// Nil for a guest that went alone.
    public var gang: UInt64?
    public init(zero: UInt64? = nil, raw: UInt64? = nil) { (self.zero, self.raw) = (zero, raw) }
  }
  public struct Guest: Codable, Sendable, Equatable {
    public var heartbeats, errors: UInt64?
    public init(heartbeats: UInt64? = nil, errors: UInt64? = nil) {
      (self.heartbeats, self.errors) = (heartbeats, errors)
    }
  }
  public struct Audit: Codable, Sendable, Equatable {
    public var pagesCompared, pagesDiffering: UInt64?
    /// How long the comparison took; the guest was stopped, so `downtimeMs` contains it.
    public var durationMs: UInt64?
    public init(
      pagesCompared: UInt64? = nil, pagesDiffering: UInt64? = nil, durationMs: UInt64? = nil
    ) {
      (self.pagesCompared, self.pagesDiffering) = (pagesCompared, pagesDiffering)
      self.durationMs = durationMs
    }
  }
  public struct Forecast: Codable, Sendable, Equatable {
    /// Before the start (`godwit migrate --forecast`): from the first page to the end, nine tenths of the
    /// simulated runs between low and high, and the pause.
    public var totalMs, totalLowMs, totalHighMs, plannedDowntimeMs: UInt64?
    /// What the model alone said of the total, before earlier outcomes were put in.
    public var modelTotalMs: UInt64?
    /// When the guest was stopped, from what was owed then.
    public var downtimeMs: UInt64?
    public init() {}

    /// Keeps what was forecast before the start.
    mutating func add(_ planned: Forecast) {
      (totalMs, totalLowMs, totalHighMs) = (
        planned.totalMs, planned.totalLowMs, planned.totalHighMs
      )
      (plannedDowntimeMs, modelTotalMs) = (planned.plannedDowntimeMs, planned.modelTotalMs)
    }
  }
  /// Of a guest that ran at the destination before its memory was there.
  public struct Pull: Codable, Sendable, Equatable {
    /// Pages that were missing there when the guest stopped, and that came while it ran.
    public var owedPages, placedPages: UInt64?
    /// Of these, pages that the guest had to wait for.
    public var faultPages: UInt64?
    /// Of those placed, pages that the destination made itself, of its snapshot and of images: only what proves them
    /// crossed the network. Nil where it had neither. They are in `pages`, too.
    public var snapshotPages, diskPages: UInt64?
    /// Of these two, pages that the guest had to wait for.
    public var localFaultPages: UInt64?
    public init() {}
  }
  /// Of the guest's memory that was left in the source's vault (`--keep`).
  public struct Kept: Codable, Sendable, Equatable {
    /// Pages that are stored, and that were zero.
    public var pages, zeroPages: UInt64?
    /// Of its file.
    public var bytes: UInt64?
    /// How long that took, after the guest had gone on at the destination; not in `totalMs`.
    public var durationMs: UInt64?
    /// Why nothing was kept, after all.
    public var problem: String?
    public init() {}
  }
  public struct Disk: Codable, Sendable, Equatable {
    public var bytesReadAtSource, wireBytes: UInt64?
    /// Of the disks that moved with the guest, in bytes.
    public var movedBytes: UInt64?
    /// How long the stopped guest waited for its disks' last blocks; a part of `downtimeMs`.
    public var pauseMs: UInt64?
    /// Images at the source that the guest does not use any more. Nobody removes them.
    public var keptAtSource: [String]?
    public init() {}
  }

  public var id: String?
  public var vm: String?
  /// `source` or `destination`: the side of the agent that wrote this.
  public var side: String? = "source"
  public var destination: String?
  /// The source's agent, in a destination's record.
  public var source: String?
  /// Seconds since 1970 at the start.
  public var startedAt: Int64?
  public var scenario: String?
  /// `godwit` or `qemu`.
  public var method = "godwit"
  public var strategy: String?
  /// Why the guest was stopped when it was: a `StopReason`; nil where QEMU's own rule decided.
  public var stopReason: String?
  /// Pages that were sent while the guest was stopped.
  public var stopSetPages: UInt64?
  /// Versions of pages that were replaced by newer ones before they were sent.
  public var supersededPages: UInt64?
  public var pageSource: String?
  public var qemu = Versions()
  public var outcome: Outcome
  public var reason: String?
  /// After a migration that was not completed: whether the guest goes on at the source. False: its
  /// QEMU is gone, or the commit is in doubt, and a person must look. Nil when it was completed.
  public var isGuestSafe: Bool?
  public var totalMs: UInt64?
  /// The longest time until the guest runs at the destination that was asked for (`--within`).
  public var withinMs: UInt64?
  /// As QEMU at the source reports it plus the wait for the destination's `cont`.
  public var downtimeMs: UInt64?
  public var clientGapMs: UInt64?
  public var wireBytes: UInt64?
  /// Connections between the agents that broke and were opened again.
  public var retries: UInt64?
  public var pages = Pages()
  /// Time that threads of the source's agent spent on making pages smaller, of all of them together;
  /// nil without compaction.
  public var encodeMs: UInt64?
  /// Pages that the destination could not make of what it has, and asked for; nil without compaction.
  public var refetchedPages: UInt64?
  public var guest = Guest()
  public var audit = Audit()
  public var forecast = Forecast()
  /// Of completed migrations: how right the ETA was.
  public var eta: EtaRecord?
  /// Nil when the guest moved with all of its memory.
  public var pull: Pull?
  /// Nil without `--keep`.
  public var kept: Kept?
  public var disk = Disk()

  public init(outcome: Outcome, reason: String? = nil) {
    (self.outcome, self.reason) = (outcome, reason)
  }
}

// Synthesised encoding leaves nil fields out; scripts are promised every field, so each type encodes
// its own: `encode` of an optional writes `null`.

extension MigrationRecord {
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(id, forKey: .id)
    try fields.encode(vm, forKey: .vm)
    try fields.encode(side, forKey: .side)
    try fields.encode(destination, forKey: .destination)
    try fields.encode(source, forKey: .source)
    try fields.encode(startedAt, forKey: .startedAt)
    try fields.encode(scenario, forKey: .scenario)
    try fields.encode(method, forKey: .method)
    try fields.encode(strategy, forKey: .strategy)
    try fields.encode(stopReason, forKey: .stopReason)
    try fields.encode(stopSetPages, forKey: .stopSetPages)
    try fields.encode(supersededPages, forKey: .supersededPages)
    try fields.encode(pageSource, forKey: .pageSource)
    try fields.encode(qemu, forKey: .qemu)
    try fields.encode(outcome, forKey: .outcome)
    try fields.encode(reason, forKey: .reason)
    try fields.encode(isGuestSafe, forKey: .isGuestSafe)
    try fields.encode(totalMs, forKey: .totalMs)
    try fields.encode(withinMs, forKey: .withinMs)
    try fields.encode(downtimeMs, forKey: .downtimeMs)
    try fields.encode(clientGapMs, forKey: .clientGapMs)
    try fields.encode(wireBytes, forKey: .wireBytes)
    try fields.encode(retries, forKey: .retries)
    try fields.encode(pages, forKey: .pages)
    try fields.encode(encodeMs, forKey: .encodeMs)
    try fields.encode(refetchedPages, forKey: .refetchedPages)
    try fields.encode(guest, forKey: .guest)
    try fields.encode(audit, forKey: .audit)
    try fields.encode(forecast, forKey: .forecast)
    try fields.encode(eta, forKey: .eta)
    try fields.encode(pull, forKey: .pull)
    try fields.encode(kept, forKey: .kept)
    try fields.encode(disk, forKey: .disk)
  }
}

extension MigrationRecord.Versions {
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(source, forKey: .source)
    try fields.encode(destination, forKey: .destination)
  }
}

extension MigrationRecord.Pages {
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(zero, forKey: .zero)
    try fields.encode(uniform, forKey: .uniform)
    try fields.encode(raw, forKey: .raw)
    try fields.encode(compressed, forKey: .compressed)
    try fields.encode(delta, forKey: .delta)
    try fields.encode(duplicate, forKey: .duplicate)
    try fields.encode(snapshot, forKey: .snapshot)
    try fields.encode(vault, forKey: .vault)
    try fields.encode(disk, forKey: .disk)
    try fields.encode(gang, forKey: .gang)
  }
}

extension MigrationRecord.Guest {
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(heartbeats, forKey: .heartbeats)
    try fields.encode(errors, forKey: .errors)
  }
}

extension MigrationRecord.Audit {
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(pagesCompared, forKey: .pagesCompared)
    try fields.encode(pagesDiffering, forKey: .pagesDiffering)
    try fields.encode(durationMs, forKey: .durationMs)
  }
}

extension MigrationRecord.Forecast {
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(totalMs, forKey: .totalMs)
    try fields.encode(totalLowMs, forKey: .totalLowMs)
    try fields.encode(totalHighMs, forKey: .totalHighMs)
    try fields.encode(plannedDowntimeMs, forKey: .plannedDowntimeMs)
    try fields.encode(modelTotalMs, forKey: .modelTotalMs)
    try fields.encode(downtimeMs, forKey: .downtimeMs)
  }
}

extension MigrationRecord.Pull {
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(owedPages, forKey: .owedPages)
    try fields.encode(placedPages, forKey: .placedPages)
    try fields.encode(faultPages, forKey: .faultPages)
    try fields.encode(snapshotPages, forKey: .snapshotPages)
    try fields.encode(diskPages, forKey: .diskPages)
    try fields.encode(localFaultPages, forKey: .localFaultPages)
  }
}

extension MigrationRecord.Kept {
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(pages, forKey: .pages)
    try fields.encode(zeroPages, forKey: .zeroPages)
    try fields.encode(bytes, forKey: .bytes)
    try fields.encode(durationMs, forKey: .durationMs)
    try fields.encode(problem, forKey: .problem)
  }
}

extension MigrationRecord.Disk {
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(bytesReadAtSource, forKey: .bytesReadAtSource)
    try fields.encode(wireBytes, forKey: .wireBytes)
    try fields.encode(movedBytes, forKey: .movedBytes)
    try fields.encode(pauseMs, forKey: .pauseMs)
    try fields.encode(keptAtSource, forKey: .keptAtSource)
  }
}
