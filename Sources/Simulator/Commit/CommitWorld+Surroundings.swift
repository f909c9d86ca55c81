import Strategy

// What QEMUs and the network do by themselves, and the faults.
extension CommitWorld {
  /// Everything that may happen next.
  func events(_ mutation: CommitMutation? = nil) -> [CommitEvent] {
    sourceEvents(mutation) + destinationEvents(mutation) + qemuEvents() + faults()
      + decisionEvents(mutation)
  }

  private func event(
    _ actor: CommitEvent.Actor, _ text: String, _ change: (inout CommitWorld) -> Void
  ) -> CommitEvent {
    var next = self
    change(&next)
    return CommitEvent(actor: actor, text: text, next: next)
  }

  private func qemuEvents() -> [CommitEvent] {
    var events: [CommitEvent] = []
    switch sourceQEMU {
    case .running:
      if isMigrating, holdsSocket {
        events.append(event(.sourceQEMU, "stops the guest") { $0.sourceQEMU = .frozen })
      } else if isMigrating {
        events.append(event(.sourceQEMU, "gives the migration up") { $0.isMigrating = false })
      }
    case .frozen:
      if isShutOnItsWay {
        events.append(
          event(.sourceQEMU, "takes SHUT 0 and gives the guest up") { world in
            (world.sourceQEMU, world.isMigrating) = (.postmigrate, false)
            world.isShutOnItsWay = false
          })
      } else if !holdsSocket {
        events.append(
          event(.sourceQEMU, "sees its socket closed and runs the guest") { $0.runAtSource() })
      } else if !isStreamOut {
        events.append(event(.sourceQEMU, "writes the last byte") { $0.isStreamOut = true })
      }
    case .postmigrate, .dead, .retired: break
    }
    if destinationQEMU == .loading, isStreamOut, isLinkUp {
      events.append(
        event(.destinationQEMU, "has loaded everything") { $0.destinationQEMU = .paused })
    }
    if stray != nil {
      events.append(event(.network, "loses a late verdict") { $0.stray = nil })
    }
    return events
  }

  private func faults() -> [CommitEvent] {
    var events: [CommitEvent] = []
    if budget.crashes > 0 {
      if source != .down { events.append(event(.fault, "source agent dies") { $0.killSource() }) }
      if destination != .down {
        events.append(event(.fault, "destination agent dies") { $0.killDestination() })
      }
    }
    if budget.qemuDeaths > 0 {
      if !isSourceGone {
        events.append(
          event(.fault, "source QEMU dies") { world in
            (world.sourceQEMU, world.sourceKilled) = (.dead, true)
            world.budget.qemuDeaths -= 1
          })
      }
      if !isDestinationGone {
        events.append(
          event(.fault, "destination QEMU dies") { world in
            (world.destinationQEMU, world.destinationKilled) = (.dead, true)
            world.budget.qemuDeaths -= 1
          })
      }
    }
    if budget.cuts > 0 { events += cuts() }
    // Not while the journal says `committing`: then a completed migration is taken for this one, so an operator who moves a
    // guest that `godwit recover` lists breaks it.
    let mayBeMoved = sourceQEMU == .running && !isMigrating && !holdsSocket && !wasCommitted
    if budget.others > 0, mayBeMoved, sourceJournal.isDisjoint(with: [.committing, .reclaiming]) {
      events.append(
        event(.fault, "another migration takes the guest to a third host") { world in
          (world.sourceQEMU, world.isElsewhere) = (.postmigrate, true)
          world.budget.others -= 1
        })
    }
    if budget.forgets > 0, destinationJournal.outcome != nil, case .idle = destination {
      events.append(
        event(.fault, "destination drops its old journal") { world in
          (world.destinationJournal, world.hasForgotten) = ([], true)
          world.budget.forgets -= 1
        })
    }
    return events
  }

  private func cuts() -> [CommitEvent] {
    var events: [CommitEvent] = []
    if isLinkUp {
      events.append(
        event(.fault, "the connection breaks behind what is on its way") { world in
          world.isLinkUp = false
          world.budget.cuts -= 1
        })
      if !toDestination.isEmpty || !toSource.isEmpty {
        events.append(
          event(.fault, "the connection breaks and loses what is on its way") { world in
            (world.isLinkUp, world.toDestination, world.toSource) = (false, [], [])
            world.budget.cuts -= 1
          })
      }
    }
    switch call {
    case .asked(let verdict):
      events.append(
        event(.fault, "the source waits no longer, its verdict is still on its way") { world in
          (world.call, world.stray) = (.broken, verdict)
          world.budget.cuts -= 1
        })
    case .taken, .answered:
      events.append(
        event(.fault, "the answer is lost") { world in
          world.call = .broken
          world.budget.cuts -= 1
        })
    case .none, .broken: break
    }
    return events
  }

  private mutating func killSource() {
    source = .down
    closeSourceEnds()
    budget.crashes -= 1
  }

  private mutating func killDestination() {
    destination = .down
    closeDestinationEnds()
    if case .asked = call { call = .broken }
    budget.crashes -= 1
  }
}
