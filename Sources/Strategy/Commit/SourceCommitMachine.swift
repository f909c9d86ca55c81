/// The source's part of the two-phase commit, of its rollback and of both after a crash. Pure.
///
/// One effect at a time: the driver carries `effect` out and hands its outcome to `handle`. Between two
/// effects the agent may die; a new machine is then made from the journal (`init(replaying:)`). The
/// protocol and its proof are in `Docs/adr`; the simulator runs this very code.
public struct SourceCommitMachine: Hashable, Sendable {
  /// What the driver carries out next; each names the inputs by which it tells what came of it.
  public enum Effect: Hashable, Sendable {
    /// Move pages until the destination is PREPARED (`loaded`) or the migration is given up.
    case copy
    /// Write to the journal and sync: `performed` or `failed`.
    case append(SourceRecord)
    /// Answer SHUT 0 on QEMU's return path. Whether it was taken, `askMigration` tells.
    case answerShut
    /// Ask QEMU until its migration is over: `completed`, `ended`, `qemuGone`, `failed`.
    case askMigration
    /// Say `commit`, or `abort`, on the migration's own connection, if it still stands.
    case announce(CommitVerdict)
    /// Wait for the answer on that connection: `settled`, or `failed` when it breaks or stays silent.
    case awaitAnswer
    /// Deliver a verdict over a new connection: `settled`, or `failed` when it could not be delivered.
    case settle(CommitVerdict)
    /// End QEMU's migration, close its socket, and see the guest run again, as far as QEMU is there:
    /// `guestBack` or `failed`; `completed` when another migration has taken the guest away.
    case giveGuestBack
    /// Put QEMU's migration settings back, as far as QEMU is there.
    case restoreSettings
    /// `cont`: `performed`, `qemuGone`, `failed`.
    case resumeGuest
    /// The guest runs at the destination and lacks pages: give them until it says that it has all:
    /// `performed`; `qemuGone` when its memory is gone; `failed` when nobody takes them.
    case serve
    /// The guest runs elsewhere: end this QEMU, unless it is to be kept.
    case retire
    /// Nothing more to do now.
    case stop(SourceEnd)
  }

  /// What came of the effect that was carried out.
  public enum Input: Hashable, Sendable {
    /// PREPARED. `sourceIsGone`: QEMU is known to have died frozen, while the agent withheld SHUT.
    /// `pulls`: the destination lacks pages that it will ask for.
    case loaded(sourceIsGone: Bool, pulls: Bool)
    case gaveUp
    /// QEMU's socket is closed. `mayBePrepared`: the whole stream was out by then, so the destination
    /// may hold all of the guest.
    case guestBack(mayBePrepared: Bool)
    case performed, failed, qemuGone
    /// QEMU ended its migration as completed (`postmigrate`), or otherwise: it has the guest again.
    case completed, ended
    case settled(CommitSettlement)
  }

  enum Step: Hashable, Sendable {
    case copying, writingCommitting, shutting, asking, writingCommitted
    case announcingCommit, awaiting, settlingCommit
    case writingReclaiming, resuming, writingReturned, serving, retiring
    case announcingAbort, givingBack, restoring, writingTakenBack, settlingAbort
    case writingDone(SourceEnd)
    case stopped(SourceEnd)
  }

  private(set) var step: Step
  /// This agent has held QEMU's socket since the guest stopped: without its SHUT 0, QEMU cannot have
  /// resumed the guest. False after a restart, since the agent's death closed the socket.
  private let holdsSocket: Bool
  private var mayBePrepared = true
  /// The destination gets the last pages after the commit: this QEMU holds them until then.
  private var pulls = false
  /// The destination has vouched that it will not run the guest.
  private var isVouchedFor = false
  /// A person's word, used where the agent may not decide alone; one that is offered there.
  private var word: OperatorWord<SourceEnd>?

  /// A migration whose pages are being moved by this agent.
  public init() { (step, holdsSocket) = (.copying, true) }

  /// A migration that an earlier agent left behind.
  public init(replaying journal: SourceJournal, word: OperatorWord<SourceEnd>? = nil) {
    holdsSocket = false
    self.word = word.flatMap { $0.seen.decisions.contains($0.decision) ? $0 : nil }
    pulls = journal.contains(.pulls)
    if journal.contains(.done) || !journal.contains(.began) {
      step = .stopped(.nothing)
    } else if journal.contains(.takenBack) {
      step = .settlingAbort
    } else if journal.contains(.reclaiming) {
      step = .resuming
    } else if journal.contains(.committed) {
      step = .settlingCommit
    } else {
      step = journal.contains(.committing) ? .asking : .givingBack
    }
  }

  /// What is to be done now.
  public var effect: Effect {
    switch step {
    case .copying: .copy
    case .writingCommitting: .append(.committing)
    case .shutting: .answerShut
    case .asking: .askMigration
    case .writingCommitted: .append(.committed)
    case .announcingCommit: .announce(.commit)
    case .awaiting: .awaitAnswer
    case .settlingCommit: .settle(.commit)
    case .writingReclaiming: .append(.reclaiming)
    case .resuming: .resumeGuest
    case .writingReturned, .writingTakenBack: .append(.takenBack)
    case .serving: .serve
    case .retiring: .retire
    case .announcingAbort: .announce(.abort)
    case .givingBack: .giveGuestBack
    case .restoring: .restoreSettings
    case .settlingAbort: .settle(.abort)
    case .writingDone(let end): .append(.done(end))
    case .stopped(let end): .stop(end)
    }
  }

  /// Takes the outcome of `effect`; what does not belong to it is ignored.
  public mutating func handle(_ input: Input) {
    switch (step, input) {
    case (.copying, .loaded(let sourceIsGone, let pulls)):
      self.pulls = pulls
      // A QEMU that died frozen needs no SHUT, and can never resume.
      step = sourceIsGone ? .writingCommitted : .writingCommitting
    case (.copying, .gaveUp): step = .announcingAbort

    case (.writingCommitting, .performed): step = .shutting
    case (.writingCommitting, _): step = .announcingAbort
    case (.shutting, _): step = .asking
    case (.asking, .completed): step = .writingCommitted
    case (.asking, .ended): step = holdsSocket ? .announcingAbort : .givingBack
    case (.asking, .qemuGone):
      if holdsSocket { step = .writingCommitted } else { stop(.needsHuman(.commitInDoubt)) }
    case (.asking, _): stop(.open(.qemuSilent))
    case (.writingCommitted, .performed): step = holdsSocket ? .announcingCommit : .settlingCommit
    case (.writingCommitted, _): stop(.open(.journalFailed))

    case (.announcingCommit, _): step = .awaiting
    case (.awaiting, .settled(let settlement)), (.settlingCommit, .settled(let settlement)):
      committed(settlement)
    case (.awaiting, _): step = .settlingCommit
    case (.settlingCommit, _): stop(.open(.destinationSilentAfterCommit))

    case (.serving, .performed): step = .retiring
    case (.serving, .qemuGone): stop(.needsHuman(.pagesLost))
    case (.serving, _): stop(.open(.destinationLacksPages))
    case (.retiring, _): step = .writingDone(.completed)
    case (.writingReclaiming, .performed): step = .resuming
    // Without the record a restarted agent would tell the destination to run the guest: harmless only where
    // the destination has vouched that it will not.
    case (.writingReclaiming, _):
      if isVouchedFor { step = .resuming } else { stop(.open(.journalFailed)) }
    case (.resuming, .performed): step = .writingReturned
    case (.resuming, .qemuGone): step = .writingDone(.bothGone)
    case (.resuming, _): stop(.open(.qemuSilent))
    case (.writingReturned, _): step = .restoring

    case (.announcingAbort, _): step = .givingBack
    case (.givingBack, .guestBack(let mayBePrepared)):
      // After a restart nobody knows how far the stream had come.
      self.mayBePrepared = mayBePrepared || !holdsSocket
      step = .restoring
    // This QEMU was never told SHUT 0 by us, or it would be `committing`.
    case (.givingBack, .completed): stop(.needsHuman(.movedByAnother))
    case (.givingBack, _): stop(.open(.qemuSilent))
    case (.restoring, _):
      step =
        isVouchedFor
        ? .writingDone(.returned)
        : mayBePrepared
          ? .writingTakenBack
          : .writingDone(.takenBack)
    case (.writingTakenBack, _): step = .settlingAbort
    case (.settlingAbort, .settled(.running)): stop(.needsHuman(.destinationRuns))
    case (.settlingAbort, .settled): step = .writingDone(.takenBack)
    case (.settlingAbort, _): stop(.open(.destinationSilentAfterAbort))

    case (.writingDone(let end), _): step = .stopped(end)
    case (.copying, _), (.stopped, _): break
    }
  }

  private mutating func committed(_ settlement: CommitSettlement) {
    switch settlement {
    case .running: step = pulls ? .serving : .retiring
    case .gone, .lost:
      isVouchedFor = true
      step = .writingReclaiming
    case .unknown: stop(.needsHuman(.destinationForgot))
    }
  }

  /// Stops, or goes on where a person has said how.
  private mutating func stop(_ end: SourceEnd) {
    guard let decision = word?.decision, word?.seen == end else {
      step = .stopped(end)
      return
    }
    word = nil
    switch (end, decision) {
    case (_, .forget): step = .writingDone(.forgotten)
    case (.needsHuman(.commitInDoubt), .commit): step = .writingCommitted
    case (.needsHuman(.commitInDoubt), .abort): step = .writingTakenBack
    case (_, .commit): step = .retiring
    case (_, .abort): step = .writingReclaiming
    }
  }
}

extension SourceEnd {
  /// What a person may decide here.
  public var decisions: [OperatorDecision] {
    switch self {
    case .needsHuman(.commitInDoubt), .needsHuman(.destinationForgot): [.commit, .abort, .forget]
    case .open(.destinationSilentAfterCommit), .needsHuman(.movedByAnother): [.abort, .forget]
    case .open, .needsHuman(.destinationRuns), .needsHuman(.pagesLost): [.forget]
    case .completed, .takenBack, .returned, .bothGone, .forgotten, .nothing: []
    }
  }
}
