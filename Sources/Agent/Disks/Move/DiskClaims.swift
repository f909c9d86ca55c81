import HostIO
import QMP
import Wire

/// What a source says of the disks that shall move, with a probe beside each image for as long as somebody may look.
enum DiskClaims {
  /// Nil: no disk shall move, or the guest has none.
  static func make(
    _ facts: VMFacts, _ wishes: DiskWishes?, _ id: MigrationID, _ client: QMPClient
  ) async throws -> [ClaimedDisk]? {
    guard let wishes else { return nil }
    let attached = try await AttachedDisk.all(client)
    let (chosen, refusals) = DiskSelection.choose(facts.disks, wishes, attached)
    guard refusals.isEmpty else { throw Ending.refused(refusals) }
    guard !chosen.isEmpty else { return nil }
    var claims = chosen
    for place in claims.indices {
      guard let server = claims[place].server else { continue }
      let (obstacle, imageIsDisk) = await server.look()
      claims[place].claim.obstacle = claims[place].claim.obstacle ?? obstacle
      claims[place].imageIsDisk = imageIsDisk
    }
    return try await Blocking.run { [claims] in
      claims.enumerated().map { number, disk in
        var disk = disk
        // What a qcow2 image takes says little of a raw one; and two hosts can't both have it open. An image that isn't
        // the disk may be on storage that both have, and nobody must start a guest with it.
        guard disk.server?.isQcow2 != true, disk.imageIsDisk else { return disk }
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
