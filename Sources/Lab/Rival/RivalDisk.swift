import Base
import Glibc
import HostIO
import QMP

/// The guest's own disk beside a rival's migration, as operators move it today: QEMU at the destination exports an empty
/// image over NBD and QEMU at the source mirrors the disk there. Then the memory moves; while the guest is stopped
/// (`pause-before-switchover`) the mirror ends, and the destination's export with it.
struct RivalDisk: Sendable {
  /// Of the first guest; those that move at the same time have the next ones.
  static let firstPort: UInt16 = 10809
  /// Between two looks at a job, in milliseconds: while it copies, and while the guest waits for its end.
  static let (lookMs, endLookMs) = (20, 2)
  /// A mirror that is told to end has little left.
  static let endMs: UInt64 = 30_000
  private static let (job, node, export) = ("lab-mirror", "lab-target", "disk0")
  private static let disk = GuestCommandLine.diskNode

  /// How a copy ended.
  struct Copied: Sendable, Equatable {
    /// What the job says it copied: each byte was read at the source.
    var copiedBytes: UInt64
    /// From the order to end until it had ended, in milliseconds: the guest was stopped.
    var pauseMs: UInt64
  }

  let session: GuestSession
  /// At the destination.
  let image: String

  /// Nil where both hosts share the disk. Otherwise the image is there, empty.
  static func prepare(_ session: GuestSession) throws -> RivalDisk? {
    guard let image = session.movedDisk else { return nil }
    try SmallFile.write([], to: image, mode: 0o600)
    guard unsafe truncate(image, off_t(GuestDisk.size.bytes)) == 0 else {
      throw LabError("cannot make \(image): errno \(errno)")
    }
    return RivalDisk(session: session, image: image)
  }

  private var port: UInt16 { Self.firstPort + UInt16(session.number) }
  private var host: String { session.hosts.address(.destination) }

  /// Copies the disk until both sides are the same, which they then stay; nil: it is, otherwise the reason why not.
  func copy(from source: QMPClient, to destination: QMPClient) async throws -> String? {
    try await serve(destination)
    try await source.blockdevAdd([
      "driver": "nbd", "node-name": .string(Self.node), "export": .string(Self.export),
      "server": ["type": "inet", "host": .string(host), "port": .string("\(port)")],
    ])
    try await source.blockdevMirror(
      job: Self.job, device: Self.disk, target: Self.node, mode: .background,
      bytesPerSecond: session.hosts.kind == .namespaces ? nil : session.hosts.linkBytesPerSecond)
    let startMs = MonotonicClock.nowMs
    while true {
      let look = try await look(source)
      if look.status == .ready { return nil }
      if look.status == .concluded {
        return "the disk's mirror ended: \(look.error ?? "no reason")"
      }
      guard MonotonicClock.nowMs - startMs < session.options.timeoutMs else {
        try await source.blockJobCancel(job: Self.job, force: true)
        return LabRun.notFinished(session.options)
      }
      try await Task.sleep(for: .milliseconds(Self.lookMs))
    }
  }

  /// Ends the copy of a stopped guest's disk with both sides the same, and lets the destination's QEMU have its image.
  func finish(_ source: QMPClient, _ destination: QMPClient) async throws -> Copied {
    let startMs = MonotonicClock.nowMs
    try await source.blockJobCancel(job: Self.job, force: false)
    var look = try await look(source)
    while look.status != .concluded {
      guard MonotonicClock.nowMs - startMs < Self.endMs else {
        throw LabError("the disk's mirror does not end")
      }
      try await Task.sleep(for: .milliseconds(Self.endLookMs))
      look = try await self.look(source)
    }
    if let error = look.error { throw LabError("the disk's mirror failed: \(error)") }
    try await source.jobDismiss(Self.job)
    try await source.blockdevDel(nodeName: Self.node)
    try await destination.execute("nbd-server-stop")
    return Copied(
      copiedBytes: look.currentProgress, pauseMs: MonotonicClock.nowMs - startMs)
  }

  private func look(_ source: QMPClient) async throws -> JobInfo {
    guard let job = try await source.queryJobs().first(where: { $0.id == Self.job }) else {
      throw LabError("the disk's mirror is gone")
    }
    return job
  }

  private func serve(_ destination: QMPClient) async throws {
    try await destination.execute(
      "nbd-server-start",
      [
        "addr": [
          "type": "inet", "data": ["host": .string(host), "port": .string("\(port)")],
        ]
      ])
    try await destination.execute(
      "block-export-add",
      [
        "type": "nbd", "id": "lab-export", "node-name": .string(Self.disk),
        "name": .string(Self.export), "writable": true,
      ])
  }
}
