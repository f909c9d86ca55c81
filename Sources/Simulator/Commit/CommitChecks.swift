import Strategy

/// What must hold, whatever fails: the invariants of the design, for the abstract guest of `CommitWorld`.
enum CommitChecks {
  /// What is wrong in `world`; nil when nothing is.
  static func violation(in world: CommitWorld) -> String? {
    if world.sourceQEMU == .running, world.destinationQEMU == .running {
      return "I2: the guest runs at both sides"
    }
    if world.isElsewhere, world.sourceQEMU == .running || world.destinationQEMU == .running {
      return "I2: the guest runs here and where somebody else has moved it"
    }
    if world.hasRunAtDestination, world.ranOnAtSource {
      return "I1: the guest ran on at the source, and an older state of it ran at the destination"
    }
    if world.hasRunAtDestination, !world.isStreamOut {
      return "I1: the destination runs a guest that it has not all of"
    }
    if world.lacksPages, world.hasRunAtDestination, world.sourceQEMU == .retired,
      !world.isDestinationGone, !world.personDecided
    {
      return "I1: the source let go of pages that the guest lacks"
    }
    return world.isSettled ? settledViolation(in: world) : nil
  }

  private static func settledViolation(in world: CommitWorld) -> String? {
    let runs = world.sourceQEMU == .running || world.destinationQEMU == .running
    if !runs {
      // A destination's QEMU that was killed takes the guest with it once it may have run there.
      let excused =
        world.sourceKilled || (world.destinationKilled && world.hasRunAtDestination)
        || (world.destinationKilled && world.destinationJournal.contains(.resuming))
        || (world.destinationKilled && world.hasForgotten) || world.needsHuman
        || world.personForgot || world.isElsewhere
      if !excused { return "I2: the guest runs nowhere, and no QEMU of it was killed" }
    }
    if !world.wasCommitted, !world.needsHuman, !world.personForgot {
      if !world.sourceKilled, !world.isElsewhere, world.sourceQEMU != .running {
        return "I3: not committed, and the guest does not run at the source"
      }
      if !world.isDestinationGone { return "I3: not committed, and a QEMU is left behind" }
    }
    // The destination asks one only when QEMU refuses to run what may have run before.
    if world.needsHuman, world.destination != .idle(.needsHuman), !world.sourceKilled,
      !world.hasForgotten, !world.personDecided, !world.isElsewhere
    {
      return "a person is asked although nothing is in doubt"
    }
    return nil
  }
}

extension CommitWorld {
  var needsHuman: Bool {
    if case .idle(.needsHuman) = source { return true }
    return destination == .idle(.needsHuman)
  }

  /// Nothing is left to do but what only a person can.
  var isSettled: Bool {
    guard case .idle(let sourceEnd) = source, stray == nil else { return false }
    let destinationEnd: DestinationEnd
    switch destination {
    case .down: return false
    case .idle(let end): destinationEnd = end
    case .active(let machine):
      // Its own agent has never died: it waits with its session.
      switch machine.effect {
      case .awaitVerdict where !isDestinationGone && toDestination.isEmpty:
        destinationEnd = .awaitsVerdict
      // For pages that are gone, or that a person has closed the source's book on.
      case .pull where !isDestinationGone && lacksPages: destinationEnd = .open(.lacksPages)
      default: return false
      }
    }
    var isHumanAsked = personForgot
    switch sourceEnd {
    case .needsHuman: isHumanAsked = true
    case .open: if destinationEnd != .needsHuman { return false }
    default: break
    }
    switch destinationEnd {
    case .needsHuman, .ended, .nothing: return true
    case .awaitsVerdict, .open(.lacksPages): return isHumanAsked
    case .open: return false
    }
  }
}
