import HostIO

/// What has been set up at the destination so far, hence what a failure must take back.
struct DestinationUndo {
  var journal: Journal?
  var qemu: IncomingQEMU?
  var relay: DestinationRelay?
  /// All is loaded: whether the guest runs here is not ours to decide any more.
  var isPrepared = false
  /// `cont` was sent, or may have been: this QEMU is the guest now.
  var isResumed = false

  /// Leaves nothing behind (I3), unless the guest may run here.
  func takeBack(outcome: String) async {
    guard !isResumed else { return }
    let relay = self.relay
    _ = try? await Blocking.run { relay?.stop() }
    await qemu?.discard()
    // A prepared migration may be asked about again: the journal remembers that it came to nothing.
    let tag = isPrepared ? JournalRecord.outcomeLost : outcome
    try? await journal?.append(.done(outcome: tag))
    if !isPrepared { journal?.remove() }
  }
}
