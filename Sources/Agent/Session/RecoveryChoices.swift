import Strategy

// What a person may decide, and what comes of it: read by somebody who has a guest to save.
extension RecoveryItem.Choice {
  static func atSource(_ end: SourceEnd) -> [Self] {
    end.decisions.map { Self(decision: $0, effect: effect($0, end)) }
  }

  static func atDestination(_ end: DestinationEnd) -> [Self] {
    end.decisions.map { Self(decision: $0, effect: effect($0, end)) }
  }

  private static func effect(_ decision: OperatorDecision, _ end: SourceEnd) -> String {
    switch (decision, end) {
    case (.commit, .needsHuman(.commitInDoubt)):
      "the destination runs the guest as it was at the hand-over; only if it did not run on here, or its disks must have been left alone"
    case (.commit, _):
      "the guest counts as running at the destination, QEMU here is told to quit; look there first"
    case (.abort, .needsHuman(.commitInDoubt)):
      "the destination discards its copy; the guest must be started again from its disks"
    case (.abort, .needsHuman(.movedByAnother)):
      "QEMU here goes on with the guest; only if it runs nowhere else and never will"
    case (.abort, _):
      "QEMU here goes on with the guest; only if the destination never ran it and never will"
    case (.forget, .open(.destinationLacksPages)):
      "the journal is closed, and nobody gives the guest at the destination the pages it lacks any more: it waits for them for ever"
    case (.forget, _): "the journal is closed; nothing is done to any QEMU, here or there"
    }
  }

  private static func effect(_ decision: OperatorDecision, _ end: DestinationEnd) -> String {
    switch decision {
    case .commit:
      "the guest runs here as it was at the hand-over; only if the source's QEMU is gone, will not come back, and had not run on"
    case .abort where end == .needsHuman:
      "QEMU here is ended, and the source goes on with the guest if it still holds it; only if the guest never ran here"
    case .abort:
      "QEMU here is ended, and the source, which may still hold the guest, hears that it never ran here"
    case .forget: "the journal is closed as if the guest ran here; QEMU is left as it is"
    }
  }
}

/// Where a side's part stands once its agent has nothing more to do now.
protocol RecoveryEnd: Hashable, Sendable {
  var isSettled: Bool { get }
  var decisions: [OperatorDecision] { get }
}

extension SourceEnd: RecoveryEnd {
  /// Without a person, or a destination that comes back, the guest stands still.
  var needsHuman: Bool {
    switch self {
    case .open(.destinationSilentAfterAbort): false
    case .open, .needsHuman: true
    case .completed, .takenBack, .returned, .bothGone, .forgotten, .nothing: false
    }
  }

  var isSettled: Bool {
    switch self {
    case .open, .needsHuman: false
    case .completed, .takenBack, .returned, .bothGone, .forgotten, .nothing: true
    }
  }
}

extension DestinationEnd: RecoveryEnd {
  var isSettled: Bool {
    switch self {
    case .ended, .nothing: true
    case .awaitsVerdict, .open, .needsHuman: false
    }
  }
}
