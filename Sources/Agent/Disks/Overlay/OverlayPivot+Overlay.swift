import BlockStore
import HostIO
import QMP

/// An overlay is made, and has its name as long as the guest writes to it.
extension OverlayPivot {
  func makeOverlay(_ disk: OverlayDisk, _ nodes: OverlayNodes) async throws {
    _ = try await endMaking(disk)
    try OverlayFile.removeIfEmpty(disk.overlayPath)
    guard !ImageOverlay(at: disk.overlayPath).holdsSomething else {
      throw GuestDiskError.overlayIsThere(disk.name, image: disk.path, overlay: disk.overlayPath)
    }
    try OverlayFile.make(disk.overlayPath, for: disk.path)
    do {
      try await client.blockdevAdd(nodes.overlayFile)
      try await client.createQcow2(
        job: disk.makingName, file: disk.overlayFileName, byteCount: disk.byteCount,
        backing: disk.path)
      guard let made = try await endMaking(disk) else {
        throw GuestDiskError.copyEnded(disk.name, detail: "nobody knows why")
      }
      if let error = made.error { throw GuestDiskError.copyEnded(disk.name, detail: error) }
      try await client.blockdevAdd(nodes.overlay(over: nil))
    } catch {
      _ = try? await endMaking(disk)
      try? OverlayFile.removeIfEmpty(disk.overlayPath)
      throw error
    }
  }

  /// Waits until QEMU has made an overlay, and has it forget that it did; nil: it doesn't make one.
  func endMaking(_ disk: OverlayDisk) async throws -> JobInfo? {
    while let job = try await client.queryJobs().first(where: { $0.id == disk.makingName }) {
      if job.status == .concluded {
        try await client.jobDismiss(job.id)
        return job
      }
      try await Task.sleep(nanoseconds: Self.pollNs)
    }
    return nil
  }

  /// An overlay that has lost its name gets it again where the guest goes on with it after all: when whoever took the name
  /// died before QEMU changed over, and somebody else has ended the copy.
  func restoreName(_ disk: OverlayDisk) async throws {
    // In this order: a copy whose guest is held when the name is taken has changed over by then, or won't any more.
    guard disk.isOverlaid, OverlayFile.isSetAside(disk.overlayPath),
      try await job(disk)?.status != .pending, try await find(disk.name)?.isOverlaid == true
    else { return }
    try OverlayFile.takeBack(disk.overlayPath)
    tell("\(disk.overlayPath) has its name again")
  }
}
