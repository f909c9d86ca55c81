public import Base

/// The result of one migration: what `migrate --json` prints, `history` lists and the lab collects.
///
/// What was not measured is nil and printed as `null`, never 0.
public struct MigrationRecord: Codable, Sendable, Equatable {
  /// How it ended; `refused`: before anything moved.
  public enum Outcome: String, Codable, Sendable { case completed, failed, cancelled, refused }

  /// Of QEMU, on both hosts.
  public struct Versions: Codable, Sendable, Equatable {
    @OrNull public var source: String?
    @OrNull public var destination: String?
    public init(source: String? = nil, destination: String? = nil) {
      (self.source, self.destination) = (source, destination)
    }
  }
  /// Pages by the way they crossed the network.
  public struct Pages: Codable, Sendable, Equatable {
    @OrNull public var zero: UInt64?
    @OrNull public var uniform: UInt64?
    @OrNull public var raw: UInt64?
    @OrNull public var compressed: UInt64?
    @OrNull public var delta: UInt64?
    @OrNull public var duplicate: UInt64?
    /// Held at the destination at the same place, and (`vault`) at another or in another guest's snapshot; nil where there was
    /// none.
    @OrNull public var snapshot: UInt64?
    @OrNull public var vault: UInt64?
    @OrNull public var disk: UInt64?
    /// Nil for a guest that went alone.
    @OrNull public var gang: UInt64?
    public init(zero: UInt64? = nil, raw: UInt64? = nil) { (self.zero, self.raw) = (zero, raw) }
  }
  /// What a guest of the lab's said while it was watched: heartbeats, and errors that it found in
  /// its own memory. Nil outside of the lab.
  public struct Guest: Codable, Sendable, Equatable {
    @OrNull public var heartbeats: UInt64?
    @OrNull public var errors: UInt64?
    public init(heartbeats: UInt64? = nil, errors: UInt64? = nil) {
      (self.heartbeats, self.errors) = (heartbeats, errors)
    }
  }
  /// Of `--audit`; all nil without it.
  public struct Audit: Codable, Sendable, Equatable {
    @OrNull public var pagesCompared: UInt64?
    @OrNull public var pagesDiffering: UInt64?
    /// How long the comparison took; the guest was stopped, so `downtimeMs` contains it.
    @OrNull public var durationMs: UInt64?
    /// Pages of RAM blocks that one of the sides could not find in its QEMU, and of a pull that was not compared to its end.
    @OrNull public var pagesUncovered: UInt64?
    public init(
      pagesCompared: UInt64? = nil, pagesDiffering: UInt64? = nil, durationMs: UInt64? = nil,
      pagesUncovered: UInt64? = nil
    ) {
      (self.pagesCompared, self.pagesDiffering) = (pagesCompared, pagesDiffering)
      (self.durationMs, self.pagesUncovered) = (durationMs, pagesUncovered)
    }
  }
  /// What was foretold of the migration, to be held against its outcome.
  public struct Forecast: Codable, Sendable, Equatable {
    /// Before the start (`godwit migrate --forecast`): from the first page to the end, nine tenths of the
    /// simulated runs between low and high, and the pause.
    @OrNull public var totalMs: UInt64?
    @OrNull public var totalLowMs: UInt64?
    @OrNull public var totalHighMs: UInt64?
    @OrNull public var plannedDowntimeMs: UInt64?
    /// What the model alone said of the total, before earlier outcomes were put in.
    @OrNull public var modelTotalMs: UInt64?
    /// When the guest was stopped, from what was owed then.
    @OrNull public var downtimeMs: UInt64?
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
    @OrNull public var owedPages: UInt64?
    @OrNull public var placedPages: UInt64?
    /// Of these, pages that the guest had to wait for.
    @OrNull public var faultPages: UInt64?
    /// Of those placed, pages that the destination made itself, of its snapshot, of images, and of what its vault has
    /// elsewhere: only what proves them crossed the network. Nil where it had none. They are in `pages`, too.
    @OrNull public var snapshotPages: UInt64?
    @OrNull public var diskPages: UInt64?
    @OrNull public var vaultPages: UInt64?
    /// Of these three, pages that the guest had to wait for.
    @OrNull public var localFaultPages: UInt64?
    /// Pages that crossed the network smaller than they are; nil where that was not agreed on. They are in `pages`, too.
    @OrNull public var packedPages: UInt64?
    /// Of the frames with pages that crossed it while the guest ran there.
    @OrNull public var wireBytes: UInt64?
    public init() {}
  }
  /// Of the guest's memory that was left in the source's vault (`--keep`).
  public struct Kept: Codable, Sendable, Equatable {
    /// Pages that are stored, and that were zero.
    @OrNull public var pages: UInt64?
    @OrNull public var zeroPages: UInt64?
    /// Of its file.
    @OrNull public var bytes: UInt64?
    /// How long that took, after the guest had gone on at the destination; not in `totalMs`.
    @OrNull public var durationMs: UInt64?
    /// Why nothing was kept, after all.
    @OrNull public var problem: String?
    public init() {}
  }
  /// Of disks that moved.
  public struct Disk: Codable, Sendable, Equatable {
    @OrNull public var bytesReadAtSource: UInt64?
    @OrNull public var wireBytes: UInt64?
    /// Of the disks that moved with the guest, in bytes.
    @OrNull public var movedBytes: UInt64?
    /// How long the stopped guest waited for its disks' last blocks; a part of `downtimeMs`.
    @OrNull public var pauseMs: UInt64?
    /// Images at the source that the guest does not use any more. Nobody removes them.
    @OrNull public var keptAtSource: [String]?
    public init() {}
  }

  @OrNull public var id: String?
  @OrNull public var vm: String?
  /// `source` or `destination`: the side of the agent that wrote this.
  @OrNull public var side: String? = "source"
  @OrNull public var destination: String?
  /// The source's agent, in a destination's record.
  @OrNull public var source: String?
  /// Seconds since 1970 at the start.
  @OrNull public var startedAt: Int64?
  /// Of the lab's migrations; nil for all others.
  @OrNull public var scenario: String?
  /// `godwit` or `qemu`.
  public var method = "godwit"
  @OrNull public var strategy: String?
  /// Why the guest was stopped when it was: a `StopReason`; nil where QEMU's own rule decided.
  @OrNull public var stopReason: String?
  /// Pages that were sent while the guest was stopped.
  @OrNull public var stopSetPages: UInt64?
  /// Versions of pages that were replaced by newer ones before they were sent.
  @OrNull public var supersededPages: UInt64?
  /// As in `MigrationProgress`.
  @OrNull public var pageSource: String?
  public var qemu = Versions()
  public var outcome: Outcome
  @OrNull public var reason: String?
  /// After a migration that was not completed: whether the guest goes on at the source. False: its
  /// QEMU is gone, or the commit is in doubt, and a person must look. Nil when it was completed.
  @OrNull public var isGuestSafe: Bool?
  @OrNull public var totalMs: UInt64?
  /// The longest time until the guest runs at the destination that was asked for (`--within`).
  @OrNull public var withinMs: UInt64?
  /// The same as the strategy itself announced it at the start (`timebound`), to hold `totalMs` against; nil: it announced
  /// none.
  @OrNull public var boundMs: UInt64?
  /// As QEMU at the source reports it plus the wait for the destination's `cont`.
  @OrNull public var downtimeMs: UInt64?
  /// The longest time in which no client of the lab's guest had an answer; nil outside of the lab.
  @OrNull public var clientGapMs: UInt64?
  @OrNull public var wireBytes: UInt64?
  /// Connections between the agents that broke and were opened again.
  @OrNull public var retries: UInt64?
  public var pages = Pages()
  /// Time that threads of the source's agent spent on making pages smaller, of all of them together;
  /// nil without compaction.
  @OrNull public var encodeMs: UInt64?
  /// Pages that the destination could not make of what it has, and asked for; nil without compaction.
  @OrNull public var refetchedPages: UInt64?
  public var guest = Guest()
  public var audit = Audit()
  public var forecast = Forecast()
  /// Of completed migrations: how right the ETA was.
  @OrNull public var eta: EtaRecord?
  /// Nil when the guest moved with all of its memory.
  @OrNull public var pull: Pull?
  /// Nil without `--keep`.
  @OrNull public var kept: Kept?
  public var disk = Disk()

  public init(outcome: Outcome, reason: String? = nil) {
    (self.outcome, self.reason) = (outcome, reason)
  }
}
