/// What it means that the source's QEMU has died, when its migration socket or its monitor says so. Pure.
///
/// Pages are read where they lie, so what is not sent yet may have died with it (`Docs/adr/0013`).
enum SourceDeath: Equatable {
  /// The guest is lost: something of it was in that QEMU alone.
  case lost(Loss)
  /// Whatever the destination lacks is here: it can have all of the guest.
  case survivable
  /// What was not read by then is lost, and whether anything was shows by what comes next: the destination's
  /// word that it has everything, or a page that cannot be read.
  case undecided

  enum Loss: Equatable, CustomStringConvertible {
    /// It ended before its migration stream did.
    case stream
    /// Pages had yet to be read out of its process.
    case memory

    var description: String {
      switch self {
      case .stream: "the source's QEMU ended during the migration, before all of the guest was out"
      case .memory: "the source's QEMU ended during the migration, with pages that only it had"
      }
    }
  }

  /// - Parameters:
  ///   - streamHasEnded: all of its migration stream was read, what it wrote last included.
  ///   - pulls: the destination takes pages after the commit.
  ///   - memoryOutlivesQEMU: no page is read out of its process.
  init(streamHasEnded: Bool, pulls: Bool, memoryOutlivesQEMU: Bool) {
    guard streamHasEnded else {
      self = .lost(.stream)
      return
    }
    if memoryOutlivesQEMU {
      self = .survivable
    } else {
      self = pulls ? .lost(.memory) : .undecided
    }
  }
}
