import Strategy

// What the source's agent may do next: its machine's effect, with every outcome that the world allows.
extension CommitWorld {
  typealias SourceOutcomes = CommitOutcomes<SourceCommitMachine.Input>

  func sourceEvents(_ mutation: CommitMutation?) -> [CommitEvent] {
    switch source {
    case .down: return [replayed("agent starts again")]
    case .idle(.open) where !sourceJournal.contains(.done): return [replayed("tries again")]
    case .idle: return []
    case .active(let machine):
      if case .stop(let end) = machine.effect {
        var next = self
        next.source = .idle(end)
        next.closeSourceEnds()
        return [CommitEvent(actor: .source, text: "stops: \(end)", next: next)]
      }
      return sourceOutcomes(machine.effect, mutation).all.map { outcome in
        var next = self
        outcome.change(&next)
        if let input = outcome.input {
          var machine = machine
          machine.handle(input)
          next.source = .active(machine)
        }
        let text = outcome.isFault ? "source \(outcome.text)" : outcome.text
        return CommitEvent(actor: outcome.isFault ? .fault : .source, text: text, next: next)
      }
    }
  }

  private func replayed(_ text: String) -> CommitEvent {
    var next = self
    next.source = .active(SourceCommitMachine(replaying: sourceJournal))
    return CommitEvent(actor: .source, text: text, next: next)
  }

  private func sourceOutcomes(
    _ effect: SourceCommitMachine.Effect, _ mutation: CommitMutation?
  ) -> SourceOutcomes {
    var outcomes = SourceOutcomes()
    switch effect {
    case .copy: copy(&outcomes)
    case .append(let record): append(record, mutation, &outcomes)
    case .answerShut:
      outcomes.add(.performed, "answers SHUT 0") { world in
        world.isShutOnItsWay = world.holdsSocket && world.sourceQEMU == .frozen
      }
    case .askMigration: askMigration(&outcomes)
    case .announce(let verdict):
      outcomes.add(.performed, "says \(verdict.rawValue)") { world in
        if world.isLinkUp { world.toDestination.append(verdict) }
      }
    case .awaitAnswer: awaitAnswer(&outcomes)
    case .settle(let verdict):
      if mutation == .sourceDoesNotAsk, verdict == .commit {
        outcomes.add(.settled(.lost), "takes the destination for lost without asking")
      } else {
        settle(verdict, &outcomes)
      }
    case .giveGuestBack: giveGuestBack(mutation, &outcomes)
    case .restoreSettings: outcomes.add(.performed, "restores QEMU's settings")
    case .resumeGuest:
      guard !isSourceGone else {
        outcomes.add(.qemuGone, "finds QEMU gone")
        break
      }
      outcomes.add(.performed, "tells QEMU to go on") { $0.runAtSource() }
      silence(&outcomes)
    case .serve: serve(mutation, &outcomes)
    case .retire:
      outcomes.add(.performed, "tells QEMU to quit") { world in
        if !world.isSourceGone { world.sourceQEMU = .retired }
      }
    case .stop: break
    }
    return outcomes
  }

  /// Pages go out in one step, and the destination says that it has them.
  private func serve(_ mutation: CommitMutation?, _ outcomes: inout SourceOutcomes) {
    if mutation == .sourceRetiresAtOnce {
      return outcomes.add(.performed, "gives nothing more")
    }
    if !lacksPages || destinationJournal.outcome == .running {
      outcomes.add(.performed, "hears that nothing is missing")
    } else if isSourceGone {
      outcomes.add(.qemuGone, "finds the pages gone with QEMU")
    } else if case .active(let machine) = destination, machine.effect == .pull {
      outcomes.add(nil, "gives the last page") { $0.lacksPages = false }
    } else {
      outcomes.add(.failed, "finds nobody who takes pages")
    }
  }

  private func silence(_ outcomes: inout SourceOutcomes) {
    guard budget.refusals > 0, !isSourceGone else { return }
    outcomes.add(.failed, "gets no answer from its QEMU", isFault: true) {
      $0.budget.refusals -= 1
    }
  }

  private func copy(_ outcomes: inout SourceOutcomes) {
    let giveUp = SourceCommitMachine.Input.gaveUp
    switch toSource.first {
    case .loaded:
      outcomes.add(.loaded(sourceIsGone: isSourceGone, pulls: pulls), "hears loaded") {
        $0.toSource.removeFirst()
      }
    case .failed: outcomes.add(giveUp, "hears failed") { $0.toSource.removeFirst() }
    default: if !isLinkUp { outcomes.add(giveUp, "sees the connection closed") }
    }
    if isSourceGone, !isStreamOut { outcomes.add(giveUp, "sees QEMU gone") }
    if !isMigrating, sourceQEMU == .running { outcomes.add(giveUp, "sees the migration ended") }
    if budget.cancels > 0 {
      outcomes.add(giveUp, "is told to cancel", isFault: true) { $0.budget.cancels -= 1 }
    }
  }

  private func append(
    _ record: SourceRecord, _ mutation: CommitMutation?, _ outcomes: inout SourceOutcomes
  ) {
    if mutation == .sourceJournalsNothing, record == .committing || record == .committed {
      return outcomes.add(.performed, "pretends to journal \(record)") { $0.wasCommitted = true }
    }
    let note: (inout CommitWorld) -> Void = { world in
      world.sourceJournal.insert(record)
      if record == .committed { world.wasCommitted = true }
    }
    outcomes.add(.performed, "journals \(record)") { world in
      note(&world)
      if mutation == .commitsBeforeShut, record == .committing, world.isLinkUp {
        world.toDestination.append(.commit)
      }
    }
    guard budget.failedWrites > 0 else { return }
    outcomes.add(.failed, "cannot journal \(record)", isFault: true) {
      $0.budget.failedWrites -= 1
    }
    outcomes.add(.failed, "journals \(record) and is told that it failed", isFault: true) {
      world in
      world.budget.failedWrites -= 1
      note(&world)
    }
  }

  private func askMigration(_ outcomes: inout SourceOutcomes) {
    switch sourceQEMU {
    case .dead, .retired: outcomes.add(.qemuGone, "finds QEMU gone")
    case .postmigrate: outcomes.add(.completed, "learns that QEMU gave the guest up")
    case .running: outcomes.add(.ended, "learns that QEMU has the guest")
    case .frozen: break  // about to take SHUT, or to notice its closed socket
    }
    silence(&outcomes)
  }

  private func awaitAnswer(_ outcomes: inout SourceOutcomes) {
    switch toSource.first {
    case .running: outcomes.add(.settled(.running), "hears running") { $0.toSource.removeFirst() }
    case .failed: outcomes.add(.settled(.lost), "hears failed") { $0.toSource.removeFirst() }
    default: if !isLinkUp { outcomes.add(.failed, "sees the connection closed") }
    }
  }

  private func settle(_ verdict: CommitVerdict, _ outcomes: inout SourceOutcomes) {
    switch call {
    case .none:
      if destination == .down {
        outcomes.add(.failed, "cannot reach the destination")
      } else {
        outcomes.add(nil, "asks with \(verdict.rawValue)") { $0.call = .asked(verdict) }
      }
    case .answered(let settlement):
      outcomes.add(.settled(settlement), "is answered \(settlement.rawValue)") { $0.call = .none }
    case .broken: outcomes.add(.failed, "gets no answer") { $0.call = .none }
    case .asked, .taken: break
    }
  }

  private func giveGuestBack(_ mutation: CommitMutation?, _ outcomes: inout SourceOutcomes) {
    if holdsSocket {
      outcomes.add(nil, "closes QEMU's socket") { $0.holdsSocket = false }
      return
    }
    switch sourceQEMU {
    case .dead, .retired:
      outcomes.add(.guestBack(mayBePrepared: isStreamOut), "finds QEMU gone")
    case .postmigrate where mutation != .rollbackRunsAnyGuest:
      outcomes.add(.completed, "sees that the guest has been moved")
    case .running, .postmigrate:
      outcomes.add(.guestBack(mayBePrepared: isStreamOut), "sees the guest run") {
        $0.runAtSource()
      }
    case .frozen: break
    }
    silence(&outcomes)
  }
}
