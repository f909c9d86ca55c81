/// What the source tells the destination about a migration, on whatever connection it can get.
public enum CommitVerdict: String, Codable, Hashable, Sendable {
  /// The source's QEMU has given the guest up for good: run it.
  case commit
  /// The guest stays at the source: end the QEMU that was to receive it.
  case abort
}

/// What is true at the destination once it has carried a verdict out.
public enum CommitSettlement: String, Codable, Hashable, Sendable, CaseIterable {
  /// The guest runs at the destination, or may have run there: the source must not resume.
  case running
  /// Nothing of the migration is left at the destination, and the guest never ran there.
  case gone
  /// The destination was prepared, but its QEMU ended before the guest ran there.
  case lost
  /// The destination knows nothing of the migration, so it can vouch for nothing.
  case unknown
}

/// What a person tells an agent that may not decide by itself (`godwit recover`).
public enum OperatorDecision: String, Codable, Hashable, Sendable, CaseIterable {
  /// The guest shall run, or runs, at the destination.
  case commit
  /// The guest shall run, or runs, at the source.
  case abort
  /// Leave everything as it is and close the journal.
  case forget
}

/// A person's word, for the state that the person was shown: in any other it says nothing.
public struct OperatorWord<End: Hashable & Sendable>: Hashable, Sendable {
  let decision: OperatorDecision
  let seen: End

  /// - Parameter seen: where the migration stood when the person decided; in any other end the word
  ///   is dropped.
  public init(_ decision: OperatorDecision, seen: End) {
    (self.decision, self.seen) = (decision, seen)
  }
}

/// A record that the source writes before it takes the step behind it.
public enum SourceRecord: Hashable, Sendable {
  case committing, committed, reclaiming, takenBack
  case done(SourceEnd)
}

/// A record that the destination writes before it takes the step behind it.
public enum DestinationRecord: Hashable, Sendable {
  case prepared, resuming, refused
  case done(DestinationOutcome)
}

/// How a migration ended at the destination, as its journal keeps it.
public enum DestinationOutcome: Hashable, Sendable {
  case running, lost, discarded

  var settlement: CommitSettlement {
    switch self {
    case .running: .running
    case .lost: .lost
    case .discarded: .gone
    }
  }
}

/// The source's journal, condensed: which records it holds. Their order follows from the protocol.
public struct SourceJournal: OptionSet, Hashable, Sendable {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  public static let began = Self(rawValue: 1)
  public static let committing = Self(rawValue: 2)
  public static let committed = Self(rawValue: 4)
  public static let takenBack = Self(rawValue: 8)
  public static let done = Self(rawValue: 16)
  /// The destination is to get the last pages after the commit.
  public static let pulls = Self(rawValue: 32)
  /// The guest was given up and is to run here again all the same: it may run already.
  public static let reclaiming = Self(rawValue: 64)

  /// Notes a record that the machine had written. `began` and `pulls` are none of those: whoever
  /// reads the journal sets them.
  public mutating func insert(_ record: SourceRecord) {
    switch record {
    case .committing: insert(Self.committing)
    case .committed: insert(Self.committed)
    case .reclaiming: insert(Self.reclaiming)
    case .takenBack: insert(Self.takenBack)
    case .done: insert(Self.done)
    }
  }
}

/// The destination's journal, condensed; empty where there is none.
public struct DestinationJournal: OptionSet, Hashable, Sendable {
  public let rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  public static let began = Self(rawValue: 1)
  public static let prepared = Self(rawValue: 2)
  public static let resuming = Self(rawValue: 4)
  public static let refused = Self(rawValue: 8)
  public static let running = Self(rawValue: 16)
  public static let lost = Self(rawValue: 32)
  public static let discarded = Self(rawValue: 64)
  /// PREPARED without all of the guest's memory.
  public static let pulls = Self(rawValue: 128)

  /// How it ended, once it has.
  public var outcome: DestinationOutcome? {
    if contains(.running) { return .running }
    if contains(.lost) { return .lost }
    return contains(.discarded) ? .discarded : nil
  }

  /// Notes a record that the machine had written. `began` and `pulls` are none of those: whoever
  /// reads the journal sets them.
  public mutating func insert(_ record: DestinationRecord) {
    switch record {
    case .prepared: insert(Self.prepared)
    case .resuming: insert(Self.resuming)
    case .refused: insert(Self.refused)
    case .done(.running): insert(Self.running)
    case .done(.lost): insert(Self.lost)
    case .done(.discarded): insert(Self.discarded)
    }
  }
}

/// Where the source's part of a migration stands when its agent has nothing more to do now.
public enum SourceEnd: Hashable, Sendable {
  /// The guest is the destination's.
  case completed
  /// The guest never left, and the destination knows.
  case takenBack
  /// It was given up, and came back: the destination vouches that it never ran there.
  case returned
  /// It was given up, the destination's QEMU ended before it ran the guest, and so has the source's.
  case bothGone
  /// A person closed the journal.
  case forgotten
  /// Nothing to do: the journal holds nothing, or is closed.
  case nothing
  /// The agent tries again by itself.
  case open(SourceObstacle)
  /// Only a person can know.
  case needsHuman(SourceDoubt)
}

/// What keeps the source from settling a migration now, and may pass.
public enum SourceObstacle: String, Codable, Hashable, Sendable {
  /// The guest was given up; the destination cannot be told to run it.
  case destinationSilentAfterCommit
  /// The guest is here; the destination cannot be told to forget it.
  case destinationSilentAfterAbort
  /// The source's QEMU does not answer, or does not do what it is told.
  case qemuSilent
  /// The journal cannot be written.
  case journalFailed
  /// The guest runs at the destination, whose agent takes no pages now; this QEMU holds them.
  case destinationLacksPages
}

/// What no agent can find out.
public enum SourceDoubt: String, Codable, Hashable, Sendable {
  /// The agent died around SHUT 0 and so did QEMU: nobody knows whether it had resumed the guest.
  case commitInDoubt
  /// QEMU says that a migration has completed, and this one had not been handed over: somebody else's took the guest.
  case movedByAnother
  /// The guest was given up, and what answers as the destination knows nothing of it.
  case destinationForgot
  /// The guest was taken back on a person's word, and yet the destination has run it.
  case destinationRuns
  /// The guest runs at the destination and lacks pages that no longer are anywhere.
  case pagesLost
}

/// Where the destination's part stands when its agent has nothing more to do now.
public enum DestinationEnd: Hashable, Sendable {
  case ended(DestinationOutcome)
  /// No journal, and nothing of the migration here.
  case nothing
  /// PREPARED: the source's word is awaited, for however long.
  case awaitsVerdict
  /// The agent tries again by itself.
  case open(DestinationObstacle)
  /// QEMU refuses to run a guest that may have run before: only a person can know.
  case needsHuman
}

/// Why the agent can't get on for now; it tries again, nobody has to decide.
public enum DestinationObstacle: String, Codable, Hashable, Sendable {
  case qemuSilent, journalFailed
  /// The guest runs here, and pages that it lacks cannot be given to its QEMU now.
  case lacksPages
}
