import QEMUStream

/// What the session learns as QEMU's stream goes by.
enum StreamEvent: Sendable {
  case layout([RAMBlock], sectionID: UInt32)
  /// RAM's last section begins: the guest is stopped.
  case guestStopped
  /// The guest ran, or did not, right before it was stopped; nil: the stream says nothing clear of that. Comes before the
  /// bytes that say it are sent.
  case runState(isRunning: Bool?)
  /// RAM and device state are complete and queued.
  case ended
  /// The rest of the stream passes unread, because of the reason.
  case handedOver(String)
}
