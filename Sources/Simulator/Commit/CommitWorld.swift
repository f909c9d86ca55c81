import Strategy

/// Everything that the commit protocol depends on, in one value: two agents running the product's own
/// machines, two QEMUs, two journals, and the connections between the agents.
///
/// Small and hashable, so that an explorer can visit every state there is.
struct CommitWorld: Hashable {
  enum SourceQEMU: Hashable {
    case running
    /// Stopped, with everything sent or about to be, waiting for SHUT.
    case frozen
    /// It has given the guest up.
    case postmigrate
    /// Killed by a fault.
    case dead
    /// It was told to quit.
    case retired
  }
  enum DestinationQEMU: Hashable { case loading, paused, running, dead, discarded }

  enum Agent<Machine: Hashable, End: Hashable>: Hashable {
    case down
    case active(Machine)
    /// Nothing to do now; `End` is what its machine said last.
    case idle(End)
  }
  /// A verdict on a connection of its own.
  enum Call: Hashable {
    case none
    case asked(CommitVerdict)
    /// The destination works on it.
    case taken
    case answered(CommitSettlement)
    /// The connection broke, or the source waited too long.
    case broken
  }
  enum ToSource: Hashable { case loaded, running, failed }
  /// Where the destination's agent sends its answer.
  enum Asker: Hashable { case link, call, nobody }

  // The source's host.
  var source = Agent<SourceCommitMachine, SourceEnd>.active(SourceCommitMachine())
  var sourceJournal: SourceJournal = .began
  var sourceQEMU = SourceQEMU.running
  /// QEMU's migration is under way.
  var isMigrating = true
  /// The agent holds QEMU's migration socket.
  var holdsSocket = true
  /// The whole stream is out of QEMU.
  var isStreamOut = false
  /// SHUT 0 lies in QEMU's socket; it is delivered even when the agent dies behind it.
  var isShutOnItsWay = false

  // The destination's host.
  var destination = Agent<DestinationCommitMachine, DestinationEnd>.active(
    DestinationCommitMachine())
  var destinationJournal: DestinationJournal = .began
  var destinationQEMU = DestinationQEMU.loading
  var asker = Asker.link

  // Between them.
  var isLinkUp = true
  var toDestination: [CommitVerdict] = []
  var toSource: [ToSource] = []
  var call = Call.none
  /// A verdict whose sender no longer waits, still on its way: it may arrive late, or never.
  var stray: CommitVerdict?

  // What the checkers look at.
  /// The guest has run at the source after it was stopped for the switchover.
  var ranOnAtSource = false
  var hasRunAtDestination = false
  /// A fault, not an agent, ended this QEMU.
  var sourceKilled = false
  var destinationKilled = false
  /// The destination has dropped its journal of an ended migration, as it does after seven days.
  var hasForgotten = false
  /// A migration that is none of ours has taken the guest to a third host.
  var isElsewhere = false
  /// The source has written `committed`.
  var wasCommitted = false

  /// A person has decided something: that may be asked about again.
  var personDecided = false
  /// A person has closed a journal (`--forget`): nothing is expected of that side any more.
  var personForgot = false

  /// The guest moves before its memory: pages follow after the commit.
  let pulls: Bool
  /// They have not all followed.
  var lacksPages: Bool

  /// Faults that may still happen.
  var budget: FaultBudget

  init(_ budget: FaultBudget, pulls: Bool) {
    (self.budget, self.pulls, lacksPages) = (budget, pulls, pulls)
    if pulls { sourceJournal.insert(SourceJournal.pulls) }
  }

  var isSourceGone: Bool { sourceQEMU == .dead || sourceQEMU == .retired }
  var isDestinationGone: Bool { destinationQEMU == .dead || destinationQEMU == .discarded }

  mutating func runAtSource() {
    if sourceQEMU != .running { ranOnAtSource = true }
    (sourceQEMU, isMigrating) = (.running, false)
  }

  mutating func runAtDestination() { (destinationQEMU, hasRunAtDestination) = (.running, true) }

  /// The source's agent died or is done: its ends of everything close.
  mutating func closeSourceEnds() {
    (holdsSocket, isLinkUp) = (false, false)
    toSource = []
    if case .asked(let verdict) = call { stray = verdict }
    call = .none
  }

  /// The destination's session ended; a verdict that waits is read by whoever comes after it.
  mutating func closeDestinationEnds() {
    isLinkUp = false
    toDestination = []
    asker = .nobody
    if call == .taken { call = .broken }
  }
}

/// How many faults of each kind one run may hold.
public struct FaultBudget: Hashable, Sendable {
  /// Deaths of an agent, at either side, between any two effects.
  public var crashes: UInt8
  /// Deaths of a QEMU, at either side.
  public var qemuDeaths: UInt8
  /// Connections that break, and waits that end too early.
  public var cuts: UInt8
  /// Journal writes that report an error; the record may be on disk all the same.
  public var failedWrites: UInt8
  /// Commands that QEMU refuses or does not answer.
  public var refusals: UInt8
  /// An operator's `cancel`, or a time-out, before the commit.
  public var cancels: UInt8
  /// The destination's journal is dropped after its migration has ended.
  public var forgets: UInt8
  /// What a person decides where an agent may not (`godwit recover`).
  public var decisions: UInt8
  /// Migrations by others, of a guest whose own has ended: they take it to a third host.
  public var others: UInt8

  public init(
    crashes: UInt8 = 2, qemuDeaths: UInt8 = 1, cuts: UInt8 = 1, failedWrites: UInt8 = 1,
    refusals: UInt8 = 1, cancels: UInt8 = 1, forgets: UInt8 = 1, decisions: UInt8 = 1,
    others: UInt8 = 0
  ) {
    self.others = others
    (self.crashes, self.qemuDeaths, self.cuts) = (crashes, qemuDeaths, cuts)
    (self.failedWrites, self.refusals) = (failedWrites, refusals)
    (self.cancels, self.forgets, self.decisions) = (cancels, forgets, decisions)
  }
}

/// One thing that may happen in a `CommitWorld`.
struct CommitEvent {
  enum Actor: String {
    case source
    case destination
    case sourceQEMU = "source QEMU"
    case destinationQEMU = "destination QEMU"
    case network
    case fault
    case person
  }

  let actor: Actor
  let text: String
  let next: CommitWorld

  /// Something that need not happen, and happens only so often.
  var isFault: Bool { actor == .fault || actor == .person }
  var description: String { "\(actor.rawValue): \(text)" }
}

/// What may come of a machine's effect.
struct CommitOutcomes<Input> {
  struct Outcome {
    /// nil: the machine goes on waiting.
    let input: Input?
    let text: String
    let isFault: Bool
    let change: (inout CommitWorld) -> Void
  }
  private(set) var all: [Outcome] = []

  mutating func add(
    _ input: Input?, _ text: String, isFault: Bool = false,
    _ change: @escaping (inout CommitWorld) -> Void = { _ in }
  ) {
    all.append(Outcome(input: input, text: text, isFault: isFault, change: change))
  }
}
