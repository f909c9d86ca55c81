import BlockStore
import HostIO

/// `godwit block pull`: the disk's clients leave its server, which ends; another one has the disk read-only from then on,
/// and the clients go on at the destination.
actor PullDiskMover: DiskMover {
  /// Between two looks, in milliseconds.
  private static let lookMs = 20

  private let stage: DiskStage
  /// Of the server at the destination.
  private let control: DiskControl
  /// Whoever serves the disk until it moves.
  private let server: DiskProcess
  /// Whoever has it for the destination.
  private var supplier: DiskProcess?

  init(stage: DiskStage, control: DiskControl, server: DiskProcess) {
    (self.stage, self.control, self.server) = (stage, control, server)
  }

  func prepare() async throws {}

  func move(_ client: DiskClient) async throws -> MovedDisk {
    let startMs = MonotonicClock.nowMs
    await client.hold()
    await server.end()
    supplier = try await stage.startSupplier()
    try await control.order(
      "pull",
      ["nbd://\(stage.hosts.address(.source)):\(stage.port)/\(DiskStage.exportName)"]
        + ["--insecure-network", "--detach"] + stage.bandwidth)
    let arrival = stage.arrival
    try await WorkerThread.run("disk-client") {
      try client.goOn(socket: arrival, export: DiskStage.exportName)
    }
    let servedUs = MonotonicClock.nowUs
    while true {
      guard let status = try await control.status().pulls?.first else {
        throw LabError("the server knows of no pull")
      }
      if status.phase == .done { return moved(status, servedUs, nil) }
      if status.phase.isOver || (status.phase == .paused && status.problem != nil) {
        return moved(
          status, servedUs, status.problem ?? "the pull ended as \(status.phase.rawValue)")
      }
      guard MonotonicClock.nowMs - startMs < stage.options.timeoutMs else {
        return moved(status, servedUs, LabRun.notFinished(stage.options))
      }
      try await Task.sleep(for: .milliseconds(Self.lookMs))
    }
  }

  /// The destination has the disk already.
  func finish() async throws {}

  var successor: DiskProcess? { supplier }

  func end() async { await supplier?.end() }

  private func moved(
    _ status: DiskPullStatus, _ servedUs: UInt64, _ reason: String?
  ) -> MovedDisk {
    var moved = MovedDisk(
      endUs: MonotonicClock.nowUs, reason: reason,
      // Past the page cache from the device, elsewhere nobody knows from where.
      readBytes: stage.disk.isLimited ? status.fetchedBytes : nil, wireBytes: status.fetchedBytes)
    moved.served = .init(
      fromUs: servedUs, faults: status.faults, faultMeanUs: status.faultMeanUs,
      faultMaxUs: status.faultMaxUs)
    return moved
  }
}
