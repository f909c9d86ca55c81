import QMP

/// What is to be done next for a qcow2 disk that shall be on its server, or on its image. Pure.
///
/// Decided anew after each step from what QEMU has, so it doesn't matter who has done the steps before, nor whether that
/// one still lives.
enum OverlayStep: Sendable, Hashable {
  enum Goal: Sendable, Hashable { case file, server }

  /// Puts an empty overlay on what the guest uses: nothing below is written to from then on.
  case freeze
  /// What is below the overlay comes from the server from then on, read-only.
  case moveToServer
  /// What is below the overlay comes from the image from then on, which the server writes to no more.
  case moveToFile
  /// Closes the image in QEMU.
  case dropFormat
  /// The server may write to the image, and QEMU begins to copy what is in the overlay to it.
  case commitToServer
  /// QEMU begins to copy what is in the overlay to the image.
  case commitToFile
  /// Waits until the overlay holds nothing that isn't below it, and then takes it away from between.
  case follow
  /// Ends a copy that isn't wanted.
  case cancel
  /// Has QEMU forget a copy that has ended.
  case dismiss
  /// Removes an overlay that nothing uses.
  case dropOverlay
  /// Removes the way to the server, which nothing uses.
  case dropServer

  /// nil: the disk is where it shall be, and nothing is left of the way.
  static func next(_ disk: OverlayDisk, job: JobInfo.Status?, goal: Goal) -> OverlayStep? {
    if let job {
      switch job {
      case .concluded: return .dismiss
      // The guest's requests are held.
      case .pending: return .follow
      case .running, .ready, .other:
        return (goal == .server) == (disk.place == .overServer) ? .follow : .cancel
      }
    }
    let has = disk.nodes
    switch disk.place {
    case .file, .server:
      if has.contains(disk.overlayName) || has.contains(disk.overlayFileName) {
        return .dropOverlay
      }
      if disk.place == .server {
        if has.contains(disk.name) { return .dropFormat }
        return goal == .server ? nil : .freeze
      }
      if has.contains(disk.serverName) || has.contains(disk.serverFileName) { return .dropServer }
      return goal == .file ? nil : .freeze
    case .overFile:
      if goal == .server { return .moveToServer }
      let isClear = !has.contains(disk.serverName) && !has.contains(disk.serverFileName)
      return isClear ? .commitToFile : .dropServer
    case .overServer:
      if goal == .file { return .moveToFile }
      return has.contains(disk.name) ? .dropFormat : .commitToServer
    }
  }
}
