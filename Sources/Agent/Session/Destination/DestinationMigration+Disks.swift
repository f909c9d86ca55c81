import HostIO
import Logging
import Wire

// Disks that come with the guest.
extension DestinationMigration {
  /// Makes images for the disks that the hosts do not share, and serves them. Nil: the source asks for nothing.
  func takeDisks(
    _ request: PeerMessage.PrepareRequest, _ launch: QEMULaunch, _ journal: Journal,
    _ undo: inout DestinationUndo
  ) async throws -> [DiskAnswer]? {
    guard let claims = request.disks else { return nil }
    let configuration = configuration
    let judgement = try await Blocking.run {
      DiskReception.judge(claims, launch, configuration)
    }
    guard judgement.refusals.isEmpty else { throw Ending.refused(judgement.refusals) }
    guard !judgement.wanted.isEmpty else { return judgement.answers }
    let label = IncomingQEMU.label(id.description)
    try PrivateDirectory.make(configuration.runtimeDirectory)
    let disks = IncomingDisks(
      judgement.wanted, label: label,
      socketPath: configuration.runtimeDirectory + "/" + label + ".disks")
    undo.disks = disks
    do { try await disks.make(journal) } catch let error as SystemError {
      throw Ending.refused([
        Refusal(.disks, "at the destination: \(error)", remedy: "see what is at that path there")
      ])
    }
    state.update { $0.disks = disks }
    link.setProgress { [state] progress in state.update { progress.update(&$0.progress) } }
    enter(.disks)
    return judgement.answers
  }

  /// The waiting QEMU has to have the images that were made for it, and of the other disks the very same ones.
  func checkDisks(
    _ facts: VMFacts, _ request: PeerMessage.PrepareRequest, _ undo: DestinationUndo
  ) async throws {
    let staying = request.staying ?? []
    let refusals =
      try await Blocking.run { StayingDisk.refusals(staying, facts) }
      + DiskReception.check(undo.disks?.wanted ?? [], facts)
    guard refusals.isEmpty else { throw Ending.refused(refusals) }
  }

  /// Every block has come: they are put on stable storage before QEMU gets the rest of the stream.
  func closeDisks(_ undo: DestinationUndo) async throws {
    guard let disks = undo.disks, !disks.isClosed else {
      throw Ending.failed("the source closes disks that it never opened")
    }
    try await holds.hold(.disks)
    let writtenBytes = try await Blocking.run { try disks.close() }
    state.update { $0.disks = nil }
    logger.info("the disks are complete", metadata: ["writtenBytes": "\(writtenBytes)"])
    try link.send(.disksClosed(writtenBytes: writtenBytes))
  }

  /// A guest whose disks are not complete is not PREPARED.
  func checkDisksAreClosed(_ undo: DestinationUndo) throws {
    guard undo.disks?.isClosed != false else {
      throw Ending.failed("the guest's stream ended before its disks were complete")
    }
  }
}
