import Testing

@testable import Strategy

/// The decisions of the commit protocol, one by one; the simulator looks at what follows from them.
@Suite struct SourceCommitTests {
  private func after(
    _ journal: SourceJournal, _ inputs: [SourceCommitMachine.Input],
    decision: OperatorDecision? = nil
  ) -> SourceCommitMachine.Effect {
    var machine = SourceCommitMachine(replaying: journal, decision: decision)
    for input in inputs { machine.handle(input) }
    return machine.effect
  }

  @Test func shutComesBeforeTheWordToTheDestination() {
    var machine = SourceCommitMachine()
    var effects: [SourceCommitMachine.Effect] = []
    let inputs: [SourceCommitMachine.Input] = [
      .loaded(sourceIsGone: false, pulls: false), .performed, .performed, .completed, .performed,
      .performed,
      .settled(.running), .performed, .performed,
    ]
    for input in inputs {
      machine.handle(input)
      effects.append(machine.effect)
    }
    #expect(
      effects == [
        .append(.committing), .answerShut, .askMigration, .append(.committed), .announce(.commit),
        .awaitAnswer, .retire, .append(.done(.completed)), .stop(.completed),
      ])
  }

  @Test func inDoubtOnlyAPersonDecides() {
    let journal: SourceJournal = [.began, .committing]
    #expect(after(journal, [.qemuGone]) == .stop(.needsHuman(.commitInDoubt)))
    #expect(after(journal, [.qemuGone], decision: .commit) == .append(.committed))
    #expect(after(journal, [.qemuGone], decision: .abort) == .append(.takenBack))
    #expect(after(journal, [.qemuGone], decision: .forget) == .append(.done(.forgotten)))
    // QEMU knows better than any person.
    #expect(after(journal, [.ended], decision: .commit) == .giveGuestBack)
    #expect(after(journal, [.completed], decision: .abort) == .append(.committed))
  }

  @Test func committedGuestComesBackOnlyWhenTheDestinationVouches() {
    let journal: SourceJournal = [.began, .committing, .committed]
    #expect(after(journal, []) == .settle(.commit))
    #expect(after(journal, [.settled(.running)]) == .retire)
    #expect(after(journal, [.settled(.lost)]) == .resumeGuest)
    #expect(after(journal, [.settled(.unknown)]) == .stop(.needsHuman(.destinationForgot)))
    #expect(after(journal, [.failed]) == .stop(.open(.destinationSilentAfterCommit)))
    #expect(after(journal, [.failed], decision: .abort) == .resumeGuest)
    #expect(after(journal, [.settled(.running)], decision: .abort) == .retire)
  }

  @Test func everyOfferedDecisionIsTaken() {
    let states: [(SourceJournal, SourceCommitMachine.Input)] = [
      ([.began, .committing], .qemuGone), ([.began, .committing, .committed], .settled(.unknown)),
      ([.began, .committing, .committed], .failed), ([.began, .takenBack], .failed),
      ([.began, .takenBack], .settled(.running)),
    ]
    for (journal, input) in states {
      guard case .stop(let end) = after(journal, [input]) else {
        Issue.record("no stop after \(input)")
        continue
      }
      #expect(!end.decisions.isEmpty)
      for decision in OperatorDecision.allCases {
        let goesOn = after(journal, [input], decision: decision) != .stop(end)
        #expect(goesOn == end.decisions.contains(decision), "\(end), \(decision)")
      }
    }
  }

  @Test func closedAndEmptyJournalsNeedNothing() {
    #expect(after([], []) == .stop(.nothing))
    #expect(after([.began, .committing, .done], []) == .stop(.nothing))
  }
}

@Suite struct DestinationCommitTests {
  private func after(
    _ journal: DestinationJournal, _ verdict: CommitVerdict?,
    _ inputs: [DestinationCommitMachine.Input] = [], decision: OperatorDecision? = nil
  ) -> DestinationCommitMachine.Effect {
    var machine = DestinationCommitMachine(
      replaying: journal, verdict: verdict, decision: decision)
    for input in inputs { machine.handle(input) }
    return machine.effect
  }

  @Test func preparedWaitsForTheSource() {
    let journal: DestinationJournal = [.began, .prepared]
    #expect(after(journal, nil, [.performed]) == .stop(.awaitsVerdict))
    #expect(after(journal, nil, [.qemuGone]) == .discard)
    #expect(after(journal, .commit, [.performed]) == .append(.resuming))
    #expect(after(journal, .commit, [.qemuGone, .performed]) == .append(.done(.lost)))
    #expect(after(journal, .abort) == .discard)
    #expect(after(journal, nil, [.performed], decision: .commit) == .append(.resuming))
    #expect(after(journal, nil, [.performed], decision: .abort) == .discard)
  }

  @Test func aRefusedResumeIsWrittenDownBeforeItIsSaid() {
    var machine = DestinationCommitMachine(replaying: [.began, .prepared], verdict: .commit)
    var effects: [DestinationCommitMachine.Effect] = []
    let inputs: [DestinationCommitMachine.Input] = [
      .performed, .performed, .refused, .performed, .performed, .performed, .performed,
    ]
    for input in inputs {
      machine.handle(input)
      effects.append(machine.effect)
    }
    #expect(
      effects == [
        .append(.resuming), .resumeGuest, .append(.refused), .discard, .append(.done(.lost)),
        .answer(.lost), .stop(.ended(.lost)),
      ])
  }

  @Test func afterARestartARefusalProvesNothing() {
    let journal: DestinationJournal = [.began, .prepared, .resuming]
    #expect(after(journal, nil, [.refused]) == .stop(.needsHuman))
    #expect(after(journal, nil, [.refused], decision: .abort) == .append(.refused))
    #expect(after(journal, .commit, [.performed]) == .answer(.running))
    #expect(after(journal, .commit, [.failed]) == .stop(.open(.qemuSilent)))
  }

  @Test func repeatedVerdictsGetTheSameAnswer() {
    #expect(after([.began, .prepared, .resuming, .running], .commit) == .answer(.running))
    #expect(after([.began, .prepared, .lost], .commit) == .answer(.lost))
    #expect(after([.began, .discarded], .abort) == .answer(.gone))
    #expect(after([], .abort) == .answer(.gone))
    #expect(after([], .commit) == .answer(.unknown))
    #expect(after([], nil) == .stop(.nothing))
  }
}
