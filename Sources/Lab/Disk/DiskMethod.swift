/// A way to move a served disk while clients use it: one of Godwit's (`godwit block move`), or QEMU's own.
public enum DiskMethod: String, Sendable, CaseIterable {
  case precopy, mirror, iofollow, waio, snapmig
  /// `blockdev-mirror` of qemu-storage-daemon as it comes: what clients write is noted, and copied later.
  case qemuMirror = "qemu-mirror"
  /// The same with `copy-mode` write-blocking: writes go to both sides before they are answered.
  case qemuMirrorWriteBlocking = "qemu-mirror-write-blocking"

  var isRival: Bool { self == .qemuMirror || self == .qemuMirrorWriteBlocking }
}
