import Strategy

// What the destination's agent may do next.
extension CommitWorld {
  typealias DestinationOutcomes = CommitOutcomes<DestinationCommitMachine.Input>

  func destinationEvents(_ mutation: CommitMutation?) -> [CommitEvent] {
    switch destination {
    case .down: return [replayed(nil, "agent starts again")]
    case .idle(let end): return idleEvents(end)
    case .active(let machine):
      if case .stop(let end) = machine.effect {
        var next = self
        next.destination = .idle(end)
        next.closeDestinationEnds()
        return [CommitEvent(actor: .destination, text: "stops: \(end)", next: next)]
      }
      return destinationOutcomes(machine.effect, mutation).all.map { outcome in
        var next = self
        outcome.change(&next)
        if let input = outcome.input {
          var machine = machine
          machine.handle(input)
          next.destination = .active(machine)
        }
        let text = outcome.isFault ? "destination \(outcome.text)" : outcome.text
        return CommitEvent(
          actor: outcome.isFault ? .fault : .destination, text: text, next: next)
      }
    }
  }

  private func replayed(_ verdict: CommitVerdict?, _ text: String = "") -> CommitEvent {
    var next = self
    next.destination = .active(
      DestinationCommitMachine(replaying: destinationJournal, verdict: verdict))
    next.asker = .nobody
    return CommitEvent(actor: .destination, text: text, next: next)
  }

  /// Verdicts that arrive, and what the agent tries by itself.
  private func idleEvents(_ end: DestinationEnd) -> [CommitEvent] {
    var events: [CommitEvent] = []
    if case .asked(let verdict) = call {
      var next = replayed(verdict).next
      (next.call, next.asker) = (.taken, .call)
      events.append(
        CommitEvent(actor: .destination, text: "is asked with \(verdict.rawValue)", next: next))
    }
    if let stray {
      var next = replayed(stray).next
      next.stray = nil
      events.append(
        CommitEvent(actor: .destination, text: "hears a late \(stray.rawValue)", next: next))
    }
    switch end {
    case .open: events.append(replayed(nil, "tries again"))
    case .awaitsVerdict where isDestinationGone:
      events.append(replayed(nil, "looks at its QEMU again"))
    default: break
    }
    return events
  }

  private func destinationOutcomes(
    _ effect: DestinationCommitMachine.Effect, _ mutation: CommitMutation?
  ) -> DestinationOutcomes {
    var outcomes = DestinationOutcomes()
    switch effect {
    case .load: load(&outcomes)
    case .append(let record): append(record, mutation, &outcomes)
    case .announceLoaded:
      outcomes.add(.performed, "says loaded") { world in
        if world.isLinkUp { world.toSource.append(.loaded) }
      }
    case .awaitVerdict: awaitVerdict(&outcomes)
    case .checkQEMU:
      if isDestinationGone {
        outcomes.add(.qemuGone, "finds QEMU gone")
      } else {
        outcomes.add(.performed, "finds QEMU alive")
      }
    case .resumeGuest: resumeGuest(&outcomes)
    case .pull: pull(&outcomes)
    case .discard:
      outcomes.add(.performed, "ends QEMU") { world in
        if !world.isDestinationGone { world.destinationQEMU = .discarded }
      }
    case .answer(let settlement):
      outcomes.add(.performed, "answers \(settlement.rawValue)") { world in
        let vouches = mutation == .destinationVouchesForAll && settlement == .unknown
        world.answer(vouches ? .gone : settlement)
      }
    case .stop: break
    }
    return outcomes
  }

  private mutating func answer(_ settlement: CommitSettlement) {
    switch asker {
    case .link: if isLinkUp { toSource.append(settlement == .running ? .running : .failed) }
    case .call: if call == .taken { call = .answered(settlement) }
    case .nobody: break
    }
    asker = .nobody
  }

  private func load(_ outcomes: inout DestinationOutcomes) {
    if destinationQEMU == .paused {
      outcomes.add(.loaded(pulls: pulls), "sees everything loaded") { world in
        if world.pulls { world.destinationJournal.insert(DestinationJournal.pulls) }
      }
    }
    if isDestinationGone { outcomes.add(.gaveUp, "sees QEMU gone") }
    if toDestination.first == .abort {
      outcomes.add(.gaveUp, "hears abort") { $0.toDestination.removeFirst() }
    } else if !isLinkUp {
      outcomes.add(.gaveUp, "sees the connection closed")
    }
    if case .asked = call {
      outcomes.add(.gaveUp, "is asked while it loads") { ($0.call, $0.asker) = (.taken, .call) }
    }
  }

  private func append(
    _ record: DestinationRecord, _ mutation: CommitMutation?,
    _ outcomes: inout DestinationOutcomes
  ) {
    if mutation == .destinationAnswersFirst, record == .refused {
      return outcomes.add(.performed, "answers lost, and journals nothing") { $0.answer(.lost) }
    }
    outcomes.add(.performed, "journals \(record)") { $0.destinationJournal.insert(record) }
    guard budget.failedWrites > 0 else { return }
    outcomes.add(.failed, "cannot journal \(record)", isFault: true) {
      $0.budget.failedWrites -= 1
    }
    outcomes.add(.failed, "journals \(record) and is told that it failed", isFault: true) {
      world in
      world.budget.failedWrites -= 1
      world.destinationJournal.insert(record)
    }
  }

  private func awaitVerdict(_ outcomes: inout DestinationOutcomes) {
    if isDestinationGone { outcomes.add(.qemuGone, "sees QEMU gone") }
    if let verdict = toDestination.first {
      outcomes.add(.verdict(verdict), "hears \(verdict.rawValue)") { world in
        world.toDestination.removeFirst()
        world.asker = .link
      }
    }
    if case .asked(let verdict) = call {
      outcomes.add(.verdict(verdict), "is asked with \(verdict.rawValue)") {
        ($0.call, $0.asker) = (.taken, .call)
      }
    }
    if let stray {
      outcomes.add(.verdict(stray), "hears a late \(stray.rawValue)") {
        ($0.stray, $0.asker) = (nil, .nobody)
      }
    }
  }

  private func pull(_ outcomes: inout DestinationOutcomes) {
    guard !isDestinationGone else { return outcomes.add(.qemuGone, "finds QEMU gone") }
    if !lacksPages { outcomes.add(.performed, "sees that nothing is missing") }
    // A source that asks again is told that the guest runs.
    if case .asked = call {
      outcomes.add(nil, "is asked while it pulls") { $0.call = .answered(.running) }
    }
    if stray != nil { outcomes.add(nil, "hears a late verdict") { $0.stray = nil } }
    guard budget.refusals > 0 else { return }
    outcomes.add(.failed, "can give its QEMU no pages", isFault: true) {
      $0.budget.refusals -= 1
    }
  }

  private func resumeGuest(_ outcomes: inout DestinationOutcomes) {
    guard !isDestinationGone else { return outcomes.add(.qemuGone, "finds QEMU gone") }
    outcomes.add(.performed, "tells QEMU to run the guest") { $0.runAtDestination() }
    guard budget.refusals > 0 else { return }
    if destinationQEMU == .paused {
      outcomes.add(.refused, "is refused by its QEMU", isFault: true) { $0.budget.refusals -= 1 }
    }
    outcomes.add(.failed, "gets no answer from its QEMU", isFault: true) {
      $0.budget.refusals -= 1
    }
    outcomes.add(.failed, "gets no answer from its QEMU, which runs the guest", isFault: true) {
      world in
      world.budget.refusals -= 1
      world.runAtDestination()
    }
  }
}
