/// A way to move a served disk while clients use it: one of Godwit's (`godwit block move`), or QEMU's own.
public enum DiskMethod: String, Sendable, CaseIterable {
  case precopy, mirror, iofollow, waio, snapmig
  /// Sends what an older copy at the destination hasn't. The copy is the disk as it was when its clients began.
  case incremental
  /// Clients go to the destination at once; what they lack there comes from the source.
  case pull
  /// `blockdev-mirror` of qemu-storage-daemon as it comes: what clients write is noted, and copied later.
  case qemuMirror = "qemu-mirror"
  /// The same with `copy-mode` write-blocking: writes go to both sides before they are answered.
  case qemuMirrorWriteBlocking = "qemu-mirror-write-blocking"
  /// Nothing moves: what the same clients have when they are alone.
  case still = "none"
  /// Nothing moves, but a surrogate is in use as in `waio`: what it does for the clients by itself.
  case waioIdle = "waio-idle"

  /// A control: it is watched for as long as the warm-up takes, and has no total.
  var isStill: Bool { self == .still || self == .waioIdle }
  var hasSurrogate: Bool { self == .waio || self == .waioIdle }
  var isRival: Bool { self == .qemuMirror || self == .qemuMirrorWriteBlocking }
  /// Whether what was written is noted from the clients' beginning on (`godwit block snapshot`).
  var needsSnapshot: Bool { self == .snapmig || self == .incremental }
}
