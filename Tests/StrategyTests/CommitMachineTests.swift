import Testing

@testable import Strategy

/// The decisions of the commit protocol, one by one; the simulator looks at what follows from them.
@Suite struct SourceCommitTests {
  private func after(
    _ journal: SourceJournal, _ inputs: [SourceCommitMachine.Input],
    word: OperatorWord<SourceEnd>? = nil
  ) -> SourceCommitMachine.Effect {
    var machine = SourceCommitMachine(replaying: journal, word: word)
    for input in inputs { machine.handle(input) }
    return machine.effect
  }

  /// A person decides about what the same inputs lead to.
  private func after(
    _ journal: SourceJournal, _ inputs: [SourceCommitMachine.Input], decision: OperatorDecision
  ) -> SourceCommitMachine.Effect {
    guard case .stop(let seen) = after(journal, inputs) else {
      Issue.record("nothing to decide after \(inputs)")
      return .copy
    }
    return after(journal, inputs, word: OperatorWord(decision, seen: seen))
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
    let seen = SourceEnd.needsHuman(.commitInDoubt)
    #expect(after(journal, [.ended], word: .init(.commit, seen: seen)) == .giveGuestBack)
    #expect(after(journal, [.completed], word: .init(.abort, seen: seen)) == .append(.committed))
    // A word about another state says nothing about this one.
    let other = OperatorWord(.forget, seen: SourceEnd.open(.qemuSilent))
    #expect(after(journal, [.qemuGone], word: other) == .stop(seen))
  }

  @Test func committedGuestComesBackOnlyWhenTheDestinationVouches() {
    let journal: SourceJournal = [.began, .committing, .committed]
    #expect(after(journal, []) == .settle(.commit))
    #expect(after(journal, [.settled(.running)]) == .retire)
    #expect(after(journal, [.settled(.lost)]) == .append(.reclaiming))
    #expect(after(journal, [.settled(.lost), .performed]) == .resumeGuest)
    // The destination has vouched: a disk that takes no record doesn't keep the guest standing.
    #expect(after(journal, [.settled(.lost), .failed]) == .resumeGuest)
    #expect(after(journal, [.settled(.unknown)]) == .stop(.needsHuman(.destinationForgot)))
    #expect(after(journal, [.failed]) == .stop(.open(.destinationSilentAfterCommit)))
    #expect(after(journal, [.failed], decision: .abort) == .append(.reclaiming))
    let silent = SourceEnd.open(.destinationSilentAfterCommit)
    let abort = OperatorWord(.abort, seen: silent)
    #expect(after(journal, [.settled(.running)], word: abort) == .retire)
  }

  /// From the record on no agent says `commit` any more, whenever it died; without it the guest stays as it is.
  @Test func whatAPersonTakesBackIsWrittenDownFirst() {
    let journal: SourceJournal = [.began, .committing, .committed]
    let abort = OperatorWord(.abort, seen: SourceEnd.open(.destinationSilentAfterCommit))
    #expect(after(journal, [.failed, .performed], word: abort) == .resumeGuest)
    #expect(after(journal, [.failed, .failed], word: abort) == .stop(.open(.journalFailed)))
    let reclaimed = journal.union(.reclaiming)
    #expect(after(reclaimed, []) == .resumeGuest)
    #expect(after(reclaimed, [.performed]) == .append(.takenBack))
    #expect(after(reclaimed, [.failed]) == .stop(.open(.qemuSilent)))
    #expect(after(reclaimed.union(.takenBack), []) == .settle(.abort))
  }

  /// QEMU was never told SHUT 0 by this migration, and yet the guest is gone: nobody may run it again here.
  @Test func aGuestThatAnotherMigrationTookStaysWhereItIs() {
    let moved = SourceEnd.needsHuman(.movedByAnother)
    #expect(after([.began], [.completed]) == .stop(moved))
    #expect(after([.began], [.completed], decision: .forget) == .append(.done(.forgotten)))
    #expect(after([.began], [.completed], decision: .abort) == .append(.reclaiming))
    var machine = SourceCommitMachine()
    for input in [.gaveUp, .performed, .completed] as [SourceCommitMachine.Input] {
      machine.handle(input)
    }
    #expect(machine.effect == .stop(moved))
  }

  @Test func everyOfferedDecisionIsTaken() {
    let states: [(SourceJournal, SourceCommitMachine.Input)] = [
      ([.began, .committing], .qemuGone), ([.began, .committing, .committed], .settled(.unknown)),
      ([.began, .committing, .committed], .failed), ([.began, .takenBack], .failed),
      ([.began, .takenBack], .settled(.running)), ([.began], .completed),
    ]
    for (journal, input) in states {
      guard case .stop(let end) = after(journal, [input]) else {
        Issue.record("no stop after \(input)")
        continue
      }
      #expect(!end.decisions.isEmpty)
      for decision in OperatorDecision.allCases {
        let goesOn = after(journal, [input], word: .init(decision, seen: end)) != .stop(end)
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
    _ inputs: [DestinationCommitMachine.Input] = [], word: OperatorWord<DestinationEnd>? = nil
  ) -> DestinationCommitMachine.Effect {
    var machine = DestinationCommitMachine(replaying: journal, verdict: verdict, word: word)
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
    for (decision, effect) in [
      (.commit, .append(.resuming)), (.abort, .discard), (.forget, .stop(.awaitsVerdict)),
    ] as [(OperatorDecision, DestinationCommitMachine.Effect)] {
      let word = OperatorWord(decision, seen: DestinationEnd.awaitsVerdict)
      #expect(after(journal, nil, [.performed], word: word) == effect)
    }
  }

  /// To close the journal would tell the source that nothing is missing.
  @Test func pagesThatAreMissingAreNotForgotten() {
    let journal: DestinationJournal = [.began, .prepared, .resuming, .pulls]
    let end = DestinationEnd.open(.lacksPages)
    #expect(after(journal, nil, [.performed, .failed]) == .stop(end))
    for decision in OperatorDecision.allCases {
      let word = OperatorWord(decision, seen: end)
      #expect(after(journal, nil, [.performed, .failed], word: word) == .stop(end), "\(decision)")
    }
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
    let abort = OperatorWord(.abort, seen: DestinationEnd.needsHuman)
    #expect(after(journal, nil, [.refused], word: abort) == .append(.refused))
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
