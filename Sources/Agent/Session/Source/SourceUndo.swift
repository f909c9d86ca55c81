import HostIO
import QMP

/// What has been set up at the source so far, hence what a failure must take back.
struct SourceUndo {
  var monitor: Monitor?
  var link: PeerLink?
  var relay: SourceRelay?
  var journal: Journal?
  /// QEMU's settings before the migration; nil: not touched yet.
  var settings: (capabilities: MigrationCapabilities, parameters: MigrationParameters)?
  /// Whether the guest ran when the migration began.
  var guestWasRunning = true
  /// `migrate` was sent to QEMU.
  var isMigrating = false
  /// SHUT 0 was sent, or may have been: from here on only the destination may go on.
  var isCommitted = false

  /// Ends the connections. The relay's threads first: they use the link.
  func closeLinks() async {
    let (relay, link) = (self.relay, self.link)
    _ = try? await Blocking.run {
      relay?.stop()
      link?.close()
    }
    await monitor?.close()
  }
}
