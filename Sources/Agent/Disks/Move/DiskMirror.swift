import HostIO
import Logging
import QMP

/// Disks of a running guest on their way to another host: QEMU's own mirror jobs copy them through a `DiskTunnel`.
///
/// The guest's disks stay what they are until the commit: whatever ends a job, the guest goes on with them.
final class DiskMirror: Sendable {
  /// What QEMU knows the copy of a disk by; in the journal, for whoever has to clean up.
  struct Handle: Codable, Sendable, Equatable {
    var job, node: String
  }

  let disks: [MovingDisk]
  let handles: [Handle]
  let tunnel: DiskTunnel
  private let client: QMPClient
  /// Jobs that were told to end with both sides the same.
  private let ending = Guarded<Set<String>>([])

  init(_ disks: [MovingDisk], _ handles: [Handle], _ tunnel: DiskTunnel, _ client: QMPClient) {
    (self.disks, self.handles, self.tunnel, self.client) = (disks, handles, tunnel, client)
  }

  static func handles(_ disks: [MovingDisk], id: String) -> [Handle] {
    disks.map { disk in
      let name = "gw-m-\(id.prefix(12))-\(disk.number)"
      return Handle(job: name + "j", node: name)
    }
  }

  var byteCount: UInt64 { disks.reduce(0) { $0 &+ $1.claim.byteCount } }

  /// Begins to copy.
  ///
  /// - Parameter bytesPerSecond: a limit for each of them; nil: none.
  func begin(_ mode: MirrorCopyMode, bytesPerSecond: UInt64?) async throws {
    for (disk, handle) in zip(disks, handles) {
      // Without `reconnect-delay`: a connection that breaks ends the job.
      try await client.blockdevAdd([
        "driver": "nbd", "node-name": .string(handle.node),
        "export": .string(IncomingDisks.export(disk.number)),
        "server": ["type": "unix", "path": .string(tunnel.path)], "discard": "unmap",
      ])
      try await client.blockdevMirror(
        job: handle.job, device: disk.target, target: handle.node, mode: mode,
        bytesPerSecond: bytesPerSecond)
    }
  }

  /// How far the copies are; throws when one has failed.
  func look() async throws -> DiskLook {
    var look = DiskLook()
    for (disk, job) in zip(disks, try await jobs()) {
      guard let job, job.status != .concluded, job.error == nil else {
        throw Self.failure(disk, job)
      }
      // Until the job knows what there is to copy, everything is.
      let isUnknown = job.totalProgress == 0 && job.status != .ready
      look.owedBytes &+= isUnknown ? disk.claim.byteCount : job.owedBytes
      if job.status != .ready { look.isReady = false }
    }
    return look
  }

  /// From now on the guest's writes go to both sides.
  func writeToBoth() async throws {
    for handle in handles { try await client.mirrorChange(job: handle.job, mode: .writeBlocking) }
  }

  /// The guest has stopped: ends the copies as they become ready. True once every one has ended with both sides the
  /// same and its connection is closed.
  func finish() async throws -> Bool {
    var isDone = true
    for (disk, job) in zip(disks, try await jobs()) {
      guard let job, job.error == nil else { throw Self.failure(disk, job) }
      let wasTold = ending.read { $0.contains(job.id) }
      if job.status == .concluded {
        guard wasTold else { throw Self.failure(disk, job) }
        continue
      }
      isDone = false
      guard job.status == .ready, !wasTold else { continue }
      ending.update { _ = $0.insert(job.id) }
      try await client.blockJobCancel(job: job.id, force: false)
    }
    guard isDone else { return false }
    for handle in handles {
      try await client.jobDismiss(handle.job)
      try await client.blockdevDel(nodeName: handle.node)
    }
    return true
  }

  /// In the order of `disks`; nil: QEMU has no such job.
  private func jobs() async throws -> [JobInfo?] {
    let all = try await client.queryJobs()
    return handles.map { handle in all.first { $0.id == handle.job } }
  }

  private static func failure(_ disk: MovingDisk, _ job: JobInfo?) -> Ending {
    .failed("the copy of the disk \(disk.claim.name) ended: \(job?.error ?? "nobody knows why")")
  }

  /// Takes everything of the copies out of QEMU, whatever state they are in. Never fails: what is left does the guest
  /// no harm.
  static func tidy(_ handles: [Handle], _ client: QMPClient, logger: Logger) async {
    let deadlineMs = MonotonicClock.nowMs + 10_000
    var left = handles
    while !left.isEmpty, MonotonicClock.nowMs < deadlineMs, !client.isClosed {
      let jobs: [JobInfo]
      do { jobs = try await client.queryJobs() } catch {
        try? await Task.sleep(nanoseconds: 50_000_000)
        continue
      }
      for handle in left {
        guard let job = jobs.first(where: { $0.id == handle.job }) else {
          let isGone = await remove(handle.node, client)
          if isGone { left.removeAll { $0 == handle } }
          continue
        }
        if job.status == .concluded {
          try? await client.jobDismiss(handle.job)
        } else {
          try? await client.blockJobCancel(job: handle.job, force: true)
        }
      }
      if !left.isEmpty { try? await Task.sleep(nanoseconds: 10_000_000) }
    }
    if !left.isEmpty {
      logger.warning(
        "copies of disks are left in QEMU", metadata: ["nodes": "\(left.map(\.node))"])
    }
  }

  /// Whether the node is gone.
  private static func remove(_ node: String, _ client: QMPClient) async -> Bool {
    do {
      try await client.blockdevDel(nodeName: node)
      return true
    } catch {
      guard let nodes = try? await client.queryBlockNodes() else { return false }
      return !nodes.contains { $0.nodeName == node }
    }
  }
}
