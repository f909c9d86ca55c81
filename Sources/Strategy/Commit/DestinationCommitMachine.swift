/// The destination's part of the two-phase commit, and of what follows a crash. Pure.
///
/// Driven like `SourceCommitMachine`. Once `prepared` is written it decides nothing alone; once
/// `resuming` is written it never vouches that the guest did not run, unless this agent saw QEMU refuse.
public struct DestinationCommitMachine: Hashable, Sendable {
  /// What the driver carries out next; each names the inputs by which it tells what came of it.
  public enum Effect: Hashable, Sendable {
    /// Feed QEMU until all is loaded and it stands there paused: `loaded` or `gaveUp`.
    case load
    /// Write to the journal and sync: `performed` or `failed`.
    case append(DestinationRecord)
    /// Say `loaded` on the migration's own connection.
    case announceLoaded
    /// Wait for `verdict` or `qemuGone`; a broken connection is no reason to decide anything.
    case awaitVerdict
    /// Whether QEMU lives: `performed` or `qemuGone`.
    case checkQEMU
    /// `cont`: `performed`; `refused` when QEMU said no and is still paused; `qemuGone`; `failed`.
    case resumeGuest
    /// The guest runs and lacks pages: give them to QEMU as they come, until none is missing: `performed`;
    /// `qemuGone`; `failed` when QEMU takes no more.
    case pull
    /// Kill QEMU and remove its files: `performed`, or `failed` while its process still lives.
    case discard
    /// Tell whoever asked, or the source that is still connected.
    case answer(CommitSettlement)
    case stop(DestinationEnd)
  }

  /// What came of the effect that was carried out.
  public enum Input: Hashable, Sendable {
    /// `pulls`: the guest is here but for pages that the source still holds.
    case loaded(pulls: Bool)
    case gaveUp
    case verdict(CommitVerdict)
    case performed, failed, refused, qemuGone
  }

  enum Step: Hashable, Sendable {
    case loading, writingPrepared, announcing, waiting
    case checking, checkingIdle, writingResuming, resuming, writingRefused
    case discarding(DestinationOutcome)
    case answeringRunning, answeringBeforeResuming, pulling
    case writingDone(DestinationOutcome)
    case answering(CommitSettlement, then: DestinationEnd)
    case stopped(DestinationEnd)
  }

  private(set) var step: Step
  /// Somebody waits for an answer.
  private var isAsked: Bool
  /// `resuming` was written by this agent, so no `cont` came before its own.
  private var isFirstResume = false
  /// A person's, one that is offered where it was said.
  private var word: OperatorWord<DestinationEnd>?
  /// Pages come after the guest runs.
  private var pulls = false

  /// A migration that this agent receives.
  public init() { (step, isAsked) = (.loading, true) }

  /// A migration that an earlier agent left behind, or that this one has ended.
  public init(
    replaying journal: DestinationJournal, verdict: CommitVerdict?,
    word: OperatorWord<DestinationEnd>? = nil
  ) {
    isAsked = verdict != nil
    self.word = word.flatMap { $0.seen.decisions.contains($0.decision) ? $0 : nil }
    step = .stopped(.nothing)
    pulls = journal.contains(.pulls)
    if let outcome = journal.outcome {
      conclude(outcome.settlement, .ended(outcome))
    } else if !journal.contains(.began) {
      // An abort leaves nothing to do. Of a commit, a destination without a journal knows nothing.
      conclude(verdict == .commit ? .unknown : .gone, .nothing)
    } else if journal.contains(.refused) {
      step = .discarding(.lost)
    } else if journal.contains(.resuming) {
      // The source gives pages only to a guest that may run; QEMU may need one to take the next command.
      step = pulls && isAsked ? .answeringBeforeResuming : .resuming
    } else if journal.contains(.prepared) {
      switch verdict {
      case .commit: step = .checking
      case .abort: step = .discarding(.discarded)
      case nil: step = .checkingIdle
      }
    } else {
      step = .discarding(.discarded)
    }
  }

  /// What is to be done now.
  public var effect: Effect {
    switch step {
    case .loading: .load
    case .writingPrepared: .append(.prepared)
    case .announcing: .announceLoaded
    case .waiting: .awaitVerdict
    case .checking, .checkingIdle: .checkQEMU
    case .writingResuming: .append(.resuming)
    case .resuming: .resumeGuest
    case .writingRefused: .append(.refused)
    case .discarding: .discard
    case .answeringRunning, .answeringBeforeResuming: .answer(.running)
    case .pulling: .pull
    case .writingDone(let outcome): .append(.done(outcome))
    case .answering(let settlement, _): .answer(settlement)
    case .stopped(let end): .stop(end)
    }
  }

  /// Takes the outcome of `effect`; what does not belong to it is ignored.
  public mutating func handle(_ input: Input) {
    switch (step, input) {
    case (.loading, .loaded(let pulls)):
      self.pulls = pulls
      step = .writingPrepared
    case (.loading, .gaveUp): step = .discarding(.discarded)
    case (.writingPrepared, .performed): step = .announcing
    case (.writingPrepared, _): step = .discarding(.discarded)
    case (.announcing, _): step = .waiting
    case (.waiting, .verdict(.commit)): step = .checking
    case (.waiting, .verdict(.abort)): step = .discarding(.discarded)
    case (.waiting, .qemuGone): step = .discarding(.lost)

    case (.checking, .qemuGone), (.checkingIdle, .qemuGone): step = .discarding(.lost)
    case (.checking, _):
      isFirstResume = true
      step = .writingResuming
    case (.checkingIdle, _): prepared()
    case (.writingResuming, .performed): step = .resuming
    // The record may be there all the same: it is taken back before anything is said.
    case (.writingResuming, _): step = .writingRefused
    case (.resuming, .refused):
      if isFirstResume { step = .writingRefused } else { refused() }
    case (.resuming, .performed), (.resuming, .qemuGone):
      // A QEMU that died here may have run the guest first.
      if isAsked { step = .answeringRunning } else { running() }
    case (.resuming, _): stop(.open(pulls ? .lacksPages : .qemuSilent))
    case (.answeringBeforeResuming, _):
      isAsked = false
      step = .resuming
    case (.answeringRunning, _):
      isAsked = false
      running()
    case (.pulling, .performed), (.pulling, .qemuGone): step = .writingDone(.running)
    case (.pulling, _): stop(.open(.lacksPages))
    case (.writingRefused, .performed): step = .discarding(.lost)
    case (.writingRefused, _): stop(.open(.journalFailed))

    case (.discarding(let outcome), .performed): step = .writingDone(outcome)
    case (.discarding, _): stop(.open(.qemuSilent))
    case (.writingDone(let outcome), _): conclude(outcome.settlement, .ended(outcome))
    case (.answering(_, let end), _): step = .stopped(end)
    case (.loading, _), (.waiting, _), (.stopped, _): break
    }
  }

  private mutating func running() { step = pulls ? .pulling : .writingDone(.running) }

  private mutating func conclude(_ settlement: CommitSettlement, _ end: DestinationEnd) {
    step = isAsked ? .answering(settlement, then: end) : .stopped(end)
  }

  /// PREPARED without a verdict: waits, or does what a person says in the source's place.
  private mutating func prepared() {
    switch decision(at: .awaitsVerdict) {
    case .commit:
      isFirstResume = true
      step = .writingResuming
    case .abort: step = .discarding(.lost)
    case .forget, nil: step = .stopped(.awaitsVerdict)
    }
  }

  /// QEMU will not run a guest that an earlier agent may have started already.
  private mutating func refused() {
    if decision(at: .needsHuman) == .abort { step = .writingRefused } else { stop(.needsHuman) }
  }

  private mutating func stop(_ end: DestinationEnd) {
    step = decision(at: end) == .forget ? .writingDone(.running) : .stopped(end)
  }

  /// What a person who was shown `end` has said.
  private func decision(at end: DestinationEnd) -> OperatorDecision? {
    word?.seen == end ? word?.decision : nil
  }
}

extension DestinationEnd {
  /// What a person may decide here.
  public var decisions: [OperatorDecision] {
    switch self {
    case .awaitsVerdict: [.commit, .abort]
    case .needsHuman: [.abort, .forget]
    // Closing the journal would tell the source that nothing is missing.
    case .open(.lacksPages): []
    case .open: [.forget]
    case .ended, .nothing: []
    }
  }
}
