import BlockStore
import HostIO

/// The controls: nothing moves while the clients are watched for as long as the warm-up took; with `waio-idle` a surrogate is
/// in use meanwhile, by a move that may send next to nothing.
struct StillDiskMover: DiskMover {
  private static let lookMs = 20
  private static let endMs: UInt64 = 120_000
  /// A move that sends nothing at all would not begin.
  private static let nothing = "1KiB/s"

  let stage: DiskStage
  /// Of the disk's server.
  let control: DiskControl

  func prepare() async throws {}

  func move(_ client: DiskClient) async throws -> MovedDisk {
    if stage.method.hasSurrogate {
      try await control.order(
        "move",
        [
          "nbd://\(stage.host):\(stage.port)/\(DiskStage.copyName)", "--method", "waio",
          "--surrogate", stage.surrogatePlace, "--bandwidth", Self.nothing, "--then", "wait",
          "--insecure-network", "--detach",
        ])
    }
    try await Task.sleep(for: .milliseconds(max(stage.options.warmUpMs, 1)))
    return MovedDisk(endUs: MonotonicClock.nowUs)
  }

  /// What the surrogate has goes back to the disk, which is to be looked at.
  func finish() async throws {
    guard stage.method.hasSurrogate else { return }
    try await control.order("cancel", [])
    let startMs = MonotonicClock.nowMs
    while let status = try await control.status().moves?.first?.surrogate {
      guard MonotonicClock.nowMs - startMs < Self.endMs else {
        throw LabError("the surrogate does not give back what it has: \(status.problem ?? "")")
      }
      try await Task.sleep(for: .milliseconds(Self.lookMs))
    }
  }

  func end() async {}
}
