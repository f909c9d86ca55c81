import Strategy

/// What has been set up at the destination so far, hence what an end must take back.
struct DestinationUndo {
  var journal: Journal?
  var qemu: IncomingQEMU?
  var relay: DestinationRelay?
  /// Disks that come with the guest; nil: none.
  var disks: IncomingDisks?
  /// Images that were offered to the source.
  var images: HeldImages?
  /// The gang that the guest comes with; nil: it comes alone.
  var gang: GangPart?
  var audit = AuditCheck()
  /// What is kept here of the guest, as it was offered.
  var snapshot: Vault.Entry?
  /// What is kept here of guests that share with it, as it was offered.
  var vault: [Vault.Entry] = []
  /// Every page is to be compared.
  var audits = false
  /// The guest ran at the source, so it shall run here.
  var resumesGuest = true
  /// The source has said so anew, which it does once at most.
  var hasRunState = false
  /// Who gave a verdict over a connection of its own, and waits; nil: nobody, or the session's own link.
  var asker: (@Sendable (CommitSettlement?) -> Void)?
  /// Why the guest does not come to live here; the first reason counts.
  private(set) var failure: (any Error)?
  /// Why pages can't be given to QEMU any more, where that was heard before the guest ran.
  var pullFailure: RelayFailure?
  /// When the source's word came, in milliseconds.
  var verdictAtMs: UInt64?

  mutating func fail(_ error: any Error) { failure = failure ?? error }
}
