import HostIO
import Strategy

/// What a source's journal says.
struct SourceStory {
  var start: JournalRecord.SourceStart?
  var facts: SourceJournal = []
  /// The guest moves before its memory.
  var pull: JournalRecord.PullStart?
  /// How the vCPU threads were before they were limited; nil: they are so, as far as is known.
  var vcpus: VCPUSnapshot?

  init(_ records: [JournalRecord]) {
    for record in records {
      switch record {
      case .sourceBegan(let begun):
        start = begun
        facts.insert(.began)
      case .vcpusLimited(let snapshot): vcpus = snapshot
      case .vcpusRestored: vcpus = nil
      case .pulling(let start):
        pull = start
        facts.insert(.pulls)
      case .guestRan(let isSo): start?.wasRunning = isSo
      case .committing: facts.insert(.committing)
      case .committed: facts.insert(.committed)
      case .reclaiming: facts.insert(.reclaiming)
      case .takenBack: facts.insert(.takenBack)
      case .done: facts.insert(.done)
      case .destinationBegan, .destinationStarted, .disksPlanned, .disksMade, .prepared, .resuming,
        .refused:
        break
      }
    }
  }

  var process: ProcessIdentity? {
    start.flatMap { $0.pid > 0 ? ProcessIdentity(pid: $0.pid, startTime: $0.processStart) : nil }
  }
}

/// What a destination's journal says.
struct DestinationStory {
  var start: JournalRecord.DestinationStart?
  var qemu: JournalRecord.QEMUHandle?
  var facts: DestinationJournal = []
  /// The guest runs before its memory is here.
  var pull: JournalRecord.PullStart?
  /// Images that were to be made for its disks, and those that were.
  var plannedDisks: [String] = []
  var madeDisks: [MadeFile] = []

  init(_ records: [JournalRecord]) {
    for record in records {
      switch record {
      case .destinationBegan(let start):
        self.start = start
        facts.insert(.began)
      case .destinationStarted(let start, let handle):
        (self.start, qemu) = (start, handle)
        facts.insert(.began)
      case .disksPlanned(let paths): plannedDisks = paths
      case .disksMade(let files): madeDisks = files
      case .pulling(let start):
        pull = start
        facts.insert(.pulls)
      case .prepared: facts.insert(.prepared)
      case .guestRan(let isSo): start?.resumeGuest = isSo
      case .resuming: facts.insert(.resuming)
      case .refused: facts.insert(.refused)
      case .done(JournalRecord.outcomeRunning): facts.insert(.running)
      case .done(JournalRecord.outcomeLost): facts.insert(.lost)
      case .done: facts.insert(.discarded)
      case .sourceBegan, .vcpusLimited, .vcpusRestored, .committing, .committed, .reclaiming,
        .takenBack:
        break
      }
    }
  }

  var process: ProcessIdentity? {
    qemu.map { ProcessIdentity(pid: $0.pid, startTime: $0.processStart) }
  }
}
