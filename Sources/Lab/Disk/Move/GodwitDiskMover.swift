import BlockStore
import HostIO

/// `godwit block move`.
struct GodwitDiskMover: DiskMover {
  /// Between two looks, in milliseconds.
  private static let lookMs = 20
  private static let endMs: UInt64 = 60_000

  let stage: DiskStage
  /// Of the disk's server.
  let control: DiskControl
  /// Sockets of backup servers.
  let backups: [String]

  func prepare() async throws {
    guard stage.method.needsSnapshot else { return }
    try await control.order("snapshot", ["--manifest", stage.manifest])
  }

  func move(_ client: DiskClient) async throws -> MovedDisk {
    let startMs = MonotonicClock.nowMs
    try await control.order("move", arguments)
    var originalUs: UInt64?
    func moved(_ status: MoveStatus, _ reason: String?) -> MovedDisk {
      var moved = Self.moved(status, reason)
      moved.originalUs = originalUs
      return moved
    }
    while true {
      let status = try await status()
      if stage.method == .waio, originalUs == nil, status.roundCount > 0 {
        originalUs = MonotonicClock.nowUs
      }
      if status.phase == .mirroring, status.neededBytes == 0 { return moved(status, nil) }
      let isStuck = status.phase == .paused && status.problem != nil
      if status.phase.isOver || status.phase == .interrupted || isStuck {
        return moved(status, status.problem ?? "the move ended as \(status.phase.rawValue)")
      }
      guard MonotonicClock.nowMs - startMs < stage.options.timeoutMs else {
        try await control.order("cancel", [])
        return moved(status, LabRun.notFinished(stage.options))
      }
      try await Task.sleep(for: .milliseconds(Self.lookMs))
    }
  }

  func finish() async throws {
    try await control.order("finish", ["--then", "copy"])
    let startMs = MonotonicClock.nowMs
    var status = try await status()
    while status.phase != .copied {
      guard MonotonicClock.nowMs - startMs < Self.endMs, status.phase != .paused else {
        throw LabError("the move does not end (\(status.phase.rawValue)): \(status.problem ?? "")")
      }
      try await Task.sleep(for: .milliseconds(Self.lookMs))
      status = try await self.status()
    }
  }

  func end() async {}

  private var arguments: [String] {
    var arguments = [
      "nbd://\(stage.host):\(stage.port)/\(DiskStage.copyName)", "--method", stage.method.rawValue,
      "--then", "wait", "--insecure-network", "--detach",
    ]
    if stage.method == .waio { arguments += ["--surrogate", stage.surrogatePlace] }
    if stage.method.needsSnapshot { arguments += ["--manifest", stage.manifest] }
    if stage.method == .incremental { arguments += ["--base-manifest", stage.copyManifest] }
    for socket in backups {
      arguments += ["--backup", "nbd+unix:///\(stage.number)?socket=\(socket)"]
    }
    return arguments + stage.bandwidth
  }

  private static func moved(_ status: MoveStatus, _ reason: String?) -> MovedDisk {
    MovedDisk(
      endUs: MonotonicClock.nowUs, reason: reason, readBytes: status.readBytes,
      wireBytes: status.wireBytes, rounds: status.roundCount, backupBytes: status.backupBytes,
      skippedBytes: status.skippedBytes)
  }

  private func status() async throws -> MoveStatus {
    guard let status = try await control.status().moves?.first else {
      throw LabError("the server knows of no move")
    }
    return status
  }
}
