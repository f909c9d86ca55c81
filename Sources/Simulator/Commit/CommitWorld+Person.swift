import Strategy

// What a person may decide, in the states in which `godwit recover` offers it. One who decides has looked:
// what `godwit recover` says under "only if" is so. What it doesn't offer a person may say, too: it must come to nothing. The mutation `personGuesses` leaves that out.
extension CommitWorld {
  func decisionEvents(_ mutation: CommitMutation?) -> [CommitEvent] {
    guard budget.decisions > 0 else { return [] }
    let guesses = mutation == .personGuesses
    var events: [CommitEvent] = []
    if case .idle(let end) = source, !sourceJournal.contains(.done) {
      for decision in OperatorDecision.allCases {
        let isOffered = end.decisions.contains(decision)
        guard guesses || !isOffered || mayDecide(decision, end) else { continue }
        events.append(
          decided("decides \(decision.rawValue) at the source", decision, isOffered) { world in
            world.source = .active(
              SourceCommitMachine(
                replaying: world.sourceJournal, word: OperatorWord(decision, seen: end)))
          })
      }
    }
    if case .idle(let end) = destination {
      for decision in OperatorDecision.allCases {
        let isOffered = end.decisions.contains(decision)
        guard guesses || !isOffered || mayDecide(decision, end) else { continue }
        events.append(
          decided("decides \(decision.rawValue) at the destination", decision, isOffered) { world in
            world.destination = .active(
              DestinationCommitMachine(
                replaying: world.destinationJournal, verdict: nil,
                word: OperatorWord(decision, seen: end)))
            world.asker = .nobody
          })
      }
    }
    return events
  }

  /// - Parameter isOffered: else it must change nothing, so nothing is excused by it.
  private func decided(
    _ text: String, _ decision: OperatorDecision, _ isOffered: Bool,
    _ change: (inout CommitWorld) -> Void
  ) -> CommitEvent {
    var next = self
    // No part of the budget: it may be said as often as one likes.
    guard isOffered else {
      change(&next)
      return CommitEvent(actor: .person, text: text + ", which is not offered", next: next)
    }
    next.budget.decisions -= 1
    next.personDecided = true
    if decision == .forget { next.personForgot = true }
    if decision == .commit { next.wasCommitted = true }
    change(&next)
    return CommitEvent(actor: .person, text: text, next: next)
  }

  /// The destination never ran the guest, and never will.
  private var isDestinationOut: Bool { !hasRunAtDestination && isDestinationGone }
  /// The source's QEMU is gone, and had not gone on with the guest.
  private var isSourceOut: Bool { isSourceGone && !ranOnAtSource }

  private func mayDecide(_ decision: OperatorDecision, _ end: SourceEnd) -> Bool {
    switch (decision, end) {
    case (.commit, .needsHuman(.commitInDoubt)): !ranOnAtSource
    case (.commit, _): hasRunAtDestination
    case (.abort, .needsHuman(.commitInDoubt)): true
    case (.abort, .needsHuman(.movedByAnother)): false
    case (.abort, _): isDestinationOut
    case (.forget, _): true
    }
  }

  private func mayDecide(_ decision: OperatorDecision, _ end: DestinationEnd) -> Bool {
    switch (decision, end) {
    case (.commit, _): isSourceOut
    case (.abort, .awaitsVerdict): true
    case (.abort, _): !hasRunAtDestination
    case (.forget, _): true
    }
  }
}
