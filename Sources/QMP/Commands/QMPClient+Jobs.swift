/// What a mirror does with the guest's writes.
public enum MirrorCopyMode: String, Sendable {
  /// They are noted, and copied later.
  case background
  /// They go to both sides before the guest hears that they are done.
  case writeBlocking = "write-blocking"
}

/// Jobs of the block layer.
extension QMPClient {
  /// `query-jobs`: the jobs of all kinds, those that wait to be dismissed included.
  public func queryJobs(timeoutMs: UInt64? = nil) async throws(QMPError) -> [JobInfo] {
    try await query("query-jobs", timeoutMs: timeoutMs) { reply in
      guard let elements = reply.array else { return nil }
      var jobs: [JobInfo] = []
      for element in elements {
        guard let job = JobInfo(element) else { return nil }
        jobs.append(job)
      }
      return jobs
    }
  }

  /// Begins to copy a device's root node to another node, and goes on with what the guest writes. The job stays
  /// after its end until it is dismissed, so that nobody misses how it ended.
  ///
  /// - Parameters:
  ///   - device: a root node, or the device that has it.
  ///   - bytesPerSecond: a limit; nil: none.
  public func blockdevMirror(
    job: String, device: String, target: String, mode: MirrorCopyMode, bytesPerSecond: UInt64?
  ) async throws(QMPError) {
    try await execute(
      "blockdev-mirror",
      [
        "job-id": .string(job), "device": .string(device), "target": .string(target),
        "sync": "full", "copy-mode": .string(mode.rawValue), "auto-dismiss": .bool(false),
        "speed": JSONValue(min(bytesPerSecond ?? 0, 1 << 60)),
      ])
  }

  /// Ends a job. A mirror that is ready ends with both sides the same, unless `force` has it drop everything.
  public func blockJobCancel(job: String, force: Bool) async throws(QMPError) {
    try await execute("block-job-cancel", ["device": .string(job), "force": .bool(force)])
  }

  /// Changes what a running mirror does with the guest's writes; QEMU 8.2 and later, towards `writeBlocking` only.
  public func mirrorChange(job: String, mode: MirrorCopyMode) async throws(QMPError) {
    try await execute(
      "block-job-change",
      ["id": .string(job), "type": "mirror", "copy-mode": .string(mode.rawValue)])
  }

  /// Has a job that is ready end with both sides the same.
  public func jobComplete(_ job: String) async throws(QMPError) {
    try await execute("job-complete", ["id": .string(job)])
  }

  /// Lets a pending job change over.
  public func jobFinalize(_ job: String) async throws(QMPError) {
    try await execute("job-finalize", ["id": .string(job)])
  }

  /// Ends a job that may be in any state; what it would have changed stays as it is.
  public func jobCancel(_ job: String) async throws(QMPError) {
    try await execute("job-cancel", ["id": .string(job)])
  }

  /// Forgets a job that has concluded.
  public func jobDismiss(_ job: String) async throws(QMPError) {
    try await execute("job-dismiss", ["id": .string(job)])
  }
}
