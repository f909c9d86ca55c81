/// What it means that the source's QEMU has died, when its migration socket or its monitor says so. Pure.
///
/// Pages are read where they lie, so what is not sent yet may have died with it (`Docs/adr/0013`).
enum SourceDeath: Equatable {
  /// The guest is lost: something of it was in that QEMU alone.
  case lost
  /// Whatever the destination lacks is here: it can have all of the guest.
  case survivable
  /// What was not read by then is lost, and whether anything was shows by what comes next: the destination's
  /// word that it has everything, or a page that cannot be read.
  case undecided

  /// - Parameters:
  ///   - streamHasEnded: all of its migration stream was read.
  ///   - pulls: the destination takes pages after the commit.
  ///   - memoryOutlivesQEMU: no page is read out of its process.
  init(streamHasEnded: Bool, pulls: Bool, memoryOutlivesQEMU: Bool) {
    guard streamHasEnded else {
      self = .lost
      return
    }
    if memoryOutlivesQEMU {
      self = .survivable
    } else {
      self = pulls ? .lost : .undecided
    }
  }
}
