import Agent
import HostIO
import QMP

/// `blockdev-mirror` of qemu-storage-daemon.
struct RivalDiskMover: DiskMover {
  static let node = "n0"
  private static let (job, target) = ("lab-mirror", "lab-target")
  private static let lookMs = 20
  private static let endMs: UInt64 = 60_000

  let stage: DiskStage
  let monitor: Monitor

  func prepare() async throws {}

  func move(_ client: DiskClient) async throws -> MovedDisk {
    let client = monitor.client
    let startMs = MonotonicClock.nowMs
    try await client.blockdevAdd([
      "driver": "nbd", "node-name": .string(Self.target), "export": .string(DiskStage.copyName),
      "server": ["type": "inet", "host": .string(stage.host), "port": .string("\(stage.port)")],
    ])
    try await client.blockdevMirror(
      job: Self.job, device: Self.node, target: Self.target,
      mode: stage.method == .qemuMirror ? .background : .writeBlocking,
      bytesPerSecond: stage.rate)
    while true {
      let job = try await look()
      // What it copied, it read: past the page cache from the device, elsewhere nobody knows from where.
      let moved = MovedDisk(
        endUs: MonotonicClock.nowUs,
        readBytes: stage.disk.isLimited ? job.currentProgress : nil)
      if job.status == .ready { return moved }
      var failed = moved
      if job.status == .concluded {
        failed.reason = "the mirror ended: \(job.error ?? "no reason given")"
        return failed
      }
      guard MonotonicClock.nowMs - startMs < stage.options.timeoutMs else {
        try await client.blockJobCancel(job: Self.job, force: true)
        failed.reason = LabRun.notFinished(stage.options)
        return failed
      }
      try await Task.sleep(for: .milliseconds(Self.lookMs))
    }
  }

  func finish() async throws {
    try await monitor.client.blockJobCancel(job: Self.job, force: false)
    let startMs = MonotonicClock.nowMs
    var job = try await look()
    while job.status != .concluded {
      guard MonotonicClock.nowMs - startMs < Self.endMs else {
        throw LabError("the mirror does not end")
      }
      try await Task.sleep(for: .milliseconds(Self.lookMs))
      job = try await look()
    }
    if let error = job.error { throw LabError("the mirror failed: \(error)") }
    try await monitor.client.jobDismiss(Self.job)
    try await monitor.client.blockdevDel(nodeName: Self.target)
  }

  func end() async {}

  private func look() async throws -> JobInfo {
    guard let job = try await monitor.client.queryJobs().first(where: { $0.id == Self.job }) else {
      throw LabError("the mirror is gone")
    }
    return job
  }
}
