public import Agent
public import Base

/// What `godwit lab run` was asked for.
public struct LabOptions: Sendable {
  public var scenario = "quickstart"
  public var guest = GuestSpecification()
  /// Guests like that which are moved at once, `1...16`.
  public var guestCount = 1
  /// What the clients of the guest's server do; their addresses are the lab's affair.
  public var clients = StoreClient.Options()
  /// Paths of the QEMUs; nil: QEMU 10 from the cache, else the installed one.
  public var sourceQEMU: String?
  public var destinationQEMU: String?
  /// nil: 1 Gbit/s.
  public var linkRate: ByteRate?
  /// Of the link, each way.
  public var linkLatencyMs: UInt64 = 0
  /// Traffic of others on the link while a guest is moved, from the source to the destination; nil: none.
  public var competingRate: ByteRate?
  /// In this order, each on a fresh guest.
  public var methods: [LabMethod] = [.qemu, .godwit]
  public var repeatCount = 1
  public var pageSource = MigrationRequest.PageSourceChoice.auto
  /// Compare all of RAM between both sides before the guest goes on (Godwit only; see `plans`).
  public var audit = true
  /// Leave the guest, the hosts and all logs in place until Ctrl-C.
  public var keep = false
  /// A migration that takes longer is cancelled and counts as failed, in milliseconds.
  public var timeoutMs: UInt64 = 180_000
  public var downtimeLimitMs: UInt64 = 300
  /// What Godwit is asked for; and, of an experiment's file, what a rival gets over what it has by itself.
  public var tuning = MethodTuning()
  /// How long the guest runs, with clients connected, before it is moved.
  public var warmUpMs: UInt64 = 2000
  /// Measure a return: Godwit's guest has been at the destination, left it with its memory kept there, and has been
  /// at the source for so long since. QEMU's guest has lived as long. Milliseconds; nil: an ordinary move.
  public var returnAfterMs: UInt64?
  /// Use the loopback interface even where namespaces could be made.
  public var forceLoopback = false
  /// The hosts don't share the guest's own disk: it moves with the guest.
  public var movesDisk = false
  /// The guest has a root disk of its own, which nobody has indexed, and which moves with it: by Godwit alone.
  public var movesRootDisk = false
  /// A guest that Godwit moves has its own disk behind a server (`GuestDiskServer`), which moves it. With QEMU alone it never
  /// has one.
  public var servesDisk = false
  /// Agents talk over plain TCP, to see what TLS costs.
  public var insecure = false
  /// Makes a forecast of a migration from what an agent found out, before Godwit moves a guest; nil: none is
  /// made. The program's affair, for it has the simulator.
  public var forecaster: Forecaster?
  /// Forecasts of earlier trials on the same hosts, newest first: each trial's agents are new ones, without a
  /// history of their own.
  public var pastForecasts: [PastForecast] = []
  public var pastKnownMoves: [PastKnownMove] = []
  /// Makes the forecast of one migration; nil: nothing can be foretold.
  public typealias Forecaster =
    @Sendable (PlanReport, MigrationRequest) throws -> MigrationRecord.Forecast?
  /// The `godwit` that the agents are started from; nil: this program itself.
  public var godwitProgram: String?

  public init() {}

  /// The trials of one round. The audit's time is downtime, so beside QEMU alone Godwit is measured
  /// without it, and shown to be right in a trial of its own.
  var plans: [(method: LabMethod, audit: Bool, label: String)] {
    var plans: [(method: LabMethod, audit: Bool, label: String)] = []
    for (index, method) in methods.enumerated() {
      switch method {
      case .rival, .disk: plans.append((method, false, "q\(index)"))
      case .strategy:
        if methods.count > 1 || !audit { plans.append((method, false, "g\(index)")) }
        if audit { plans.append((method, true, "a\(index)")) }
      }
    }
    return plans
  }
}

/// Whoever shows an experiment to people: told what happens, in order.
public protocol LabObserver: Sendable {
  func note(_ text: String) async
  func progress(_ progress: MigrationProgress) async
}
