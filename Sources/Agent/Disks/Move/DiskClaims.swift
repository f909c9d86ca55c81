import HostIO
import Wire

/// What a source says of the disks that shall move, with a probe beside each image for as long as somebody may look.
enum DiskClaims {
  /// Nil: no disk shall move, or the guest has none.
  static func make(
    _ facts: VMFacts, _ wishes: DiskWishes?, _ id: MigrationID
  ) async throws -> [ClaimedDisk]? {
    guard let wishes else { return nil }
    let (claims, refusals) = DiskSelection.choose(facts.disks, wishes)
    guard refusals.isEmpty else { throw Ending.refused(refusals) }
    guard !claims.isEmpty else { return nil }
    return try await Blocking.run {
      claims.enumerated().map { number, disk in
        var disk = disk
        disk.claim.takenBytes = FileSpace.taken(by: disk.claim.sourcePath)
        disk.claim.probe = SharedDiskProbe.leave(
          beside: disk.claim.sourcePath, id, number: number)
        return disk
      }
    }
  }

  /// The destination has looked for the probes, or never will.
  static func dropProbes(_ claims: [ClaimedDisk]?) {
    guard let claims else { return }
    _ = WorkerThread("gw-probe-end") {
      for disk in claims { disk.claim.probe?.remove(beside: disk.claim.sourcePath) }
    }
  }
}
