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
  /// Copies of disks; set before the first one begins.
  var disks: DiskCopies?
  /// Gives the guest back where we die while QEMU waits for our word.
  var pauseGuard: PauseGuard?
  /// Set before anything may limit the guest's processors.
  var vcpus: VCPUControl?
  /// Whether the guest ran when the migration began.
  var guestWasRunning = true
  /// `migrate` was sent to QEMU.
  var isMigrating = false
  /// The process of the monitor's QEMU, when it is on this host.
  var process: ProcessIdentity?
  /// When QEMU had given the guest up, in milliseconds.
  var givenUpAtMs: UInt64?

  /// Ends the connections. The relay's threads first: they use the link.
  func closeLinks() async {
    await vcpus?.restore()
    let (relay, link) = (self.relay, self.link)
    disks?.cut()
    pauseGuard?.dismiss()
    _ = try? await Blocking.run {
      relay?.stop()
      link?.close()
    }
    await monitor?.close()
  }
}
