import Glibc
import HostIO
public import QMP

/// The server of an image, as the pivot uses it. Each call may be made again.
public protocol ImageServer: Sendable {
  /// Its socket, and the export's name there.
  var socket: String { get }
  var export: String { get }
  /// QEMU has frozen the image, and has it open yet.
  func look() async throws
  /// QEMU has closed the image.
  func take() async throws
  /// QEMU is about to open the image.
  func release() async throws
  /// QEMU has the image, and needs the server no more.
  func rest() async throws
}

/// Puts a running guest's qcow2 disk behind a server that serves the same image, and takes it back, without stopping
/// the guest. What is copied is what the guest writes meanwhile.
///
/// Two programs can't have a qcow2 image open for writing: each keeps some of it in memory. So the guest writes to an
/// overlay while the image changes hands, and QEMU then copies that down. `OverlayStep` has the way.
public struct OverlayPivot: Sendable {
  /// What a way was like.
  public struct Report: Sendable, Hashable {
    /// The longest that a single change of QEMU's graph took, in microseconds: what the guest's requests may have waited.
    public var switchUs: UInt64 = 0
    /// What was in overlays, in bytes.
    public var copiedBytes: UInt64 = 0
  }

  private let client: QMPClient
  /// Told what is being done, for people.
  private let tell: @Sendable (String) -> Void
  /// More steps than any way has.
  private static let stepsMax = 64
  private static let pollNs: UInt64 = 10_000_000

  public init(_ client: QMPClient, tell: @escaping @Sendable (String) -> Void) {
    (self.client, self.tell) = (client, tell)
  }

  /// nil: no qcow2 disk is called that.
  public func find(_ name: String) async throws -> OverlayDisk? {
    try OverlayDisk.find(
      name, devices: try await client.queryBlock(), nodes: try await client.queryBlockNodes(),
      lineages: try await client.queryBlockLineages())
  }

  /// Puts the disk on the server. When that fails it is taken back to its image before the error is thrown.
  public func attach(
    _ disk: OverlayDisk, to server: some ImageServer, discard: Bool
  ) async throws -> Report {
    guard try await isOpen(disk, .server) else {
      throw GuestDiskError.alreadyAttached(disk.name)
    }
    return try await run(disk, server, discard, .server)
  }

  /// Takes the disk back to its image. When that fails it is put on the server again before the error is thrown.
  public func detach(
    _ disk: OverlayDisk, from server: some ImageServer, discard: Bool
  ) async throws -> Report {
    guard try await isOpen(disk, .file) else { throw GuestDiskError.notAttached(disk.name) }
    return try await run(disk, server, discard, .file)
  }

  /// Whether anything is left to be done.
  private func isOpen(_ disk: OverlayDisk, _ goal: OverlayStep.Goal) async throws -> Bool {
    OverlayStep.next(disk, job: try await job(disk)?.status, goal: goal) != nil
  }

  private func run(
    _ disk: OverlayDisk, _ server: some ImageServer, _ discard: Bool, _ goal: OverlayStep.Goal
  ) async throws -> Report {
    var report = Report()
    do {
      try await drive(disk, server, discard, goal, &report)
    } catch {
      tell("going back: \(error)")
      do {
        try await drive(disk, server, discard, goal == .file ? .server : .file, &report)
      } catch let second {
        throw GuestDiskError.onTheWay(
          disk.name, image: disk.path, overlay: disk.overlayPath,
          detail: client.isClosed ? "QEMU is gone: \(error)" : "\(error); then \(second)")
      }
      throw error
    }
    return report
  }

  private func drive(
    _ disk: OverlayDisk, _ server: some ImageServer, _ discard: Bool, _ goal: OverlayStep.Goal,
    _ report: inout Report
  ) async throws {
    for _ in 0..<Self.stepsMax {
      guard let now = try await find(disk.name) else {
        throw GuestDiskError.notFound(disk.name, known: [])
      }
      guard let step = OverlayStep.next(now, job: try await job(now)?.status, goal: goal) else {
        // A server that is gone has nothing open.
        if goal == .file { try? await server.rest() }
        return
      }
      try await carryOut(step, now, server, discard, &report)
    }
    throw GuestDiskError.ambiguous(disk.name)
  }

  private func job(_ disk: OverlayDisk) async throws -> JobInfo? {
    try await client.queryJobs().first { $0.id == disk.jobName }
  }

  private func carryOut(
    _ step: OverlayStep, _ disk: OverlayDisk, _ server: some ImageServer, _ discard: Bool,
    _ report: inout Report
  ) async throws {
    let nodes = OverlayNodes(disk, discard: discard)
    switch step {
    case .freeze:
      if disk.place == .file, disk.layers.count > 1 {
        guard try await BackingChain.read(disk.path).isSame(as: disk.layers) else {
          throw GuestDiskError.otherBacking(disk.name, image: disk.path)
        }
      }
      tell("writes go to \(disk.overlayPath)")
      try await makeOverlay(disk, nodes)
      let root = disk.place == .file ? disk.name : disk.serverName
      try await timed(&report) {
        try await client.blockdevSnapshot(node: root, overlay: disk.overlayName)
      }
    case .moveToServer:
      tell("the server reads the image")
      try await server.look()
      try await remove([disk.serverName, disk.serverFileName], disk)
      try await client.blockdevAdd(nodes.serverFile(server.socket, server.export))
      try await client.blockdevAdd(nodes.server)
      try await timed(&report) {
        try await client.blockdevReopen(nodes.overlay(over: disk.serverName))
      }
    case .moveToFile:
      tell("QEMU opens the image")
      try await server.release()
      try await remove([disk.name], disk)
      // QEMU remembers how long the file was, and would read what the server has put behind that as zeros.
      try await client.blockResize(
        nodeName: disk.fileNodeName, byteCount: try OverlayFile.wholeSectors(disk.path))
      let backing = try await BackingChain.read(disk.path)
        .namedBacking(
          among: try await client.queryBlockNodes(), try await client.queryNodeLineages())
      try await client.blockdevAdd(nodes.format(over: backing))
      try await timed(&report) {
        try await client.blockdevReopen(nodes.overlay(over: disk.name))
      }
    case .dropFormat: try await remove([disk.name], disk)
    case .commitToServer:
      tell("the server has the image; what was written meanwhile goes there")
      try await server.take()
      try await client.blockCommit(
        job: disk.jobName, device: disk.overlayName, base: disk.serverName)
    case .commitToFile:
      tell("QEMU has the image; what was written meanwhile goes there")
      try await client.blockCommit(job: disk.jobName, device: disk.overlayName, base: disk.name)
    case .follow: try await follow(disk, &report)
    case .cancel: try await cancel(disk)
    case .dismiss: try await client.jobDismiss(disk.jobName)
    case .dropOverlay:
      try OverlayFile.remove(disk.overlayPath)
      try await remove([disk.overlayName, disk.overlayFileName], disk)
    case .dropServer: try await remove([disk.serverName, disk.serverFileName], disk)
    }
  }

  private func timed(_ report: inout Report, _ body: () async throws -> Void) async throws {
    let startUs = MonotonicClock.nowUs
    try await body()
    report.switchUs = max(report.switchUs, MonotonicClock.nowUs - startUs)
  }

  /// Removes those of the nodes that were there.
  private func remove(_ names: [String], _ disk: OverlayDisk) async throws {
    for name in names where disk.nodes.contains(name) {
      try await client.blockdevDel(nodeName: name)
    }
  }
}

// MARK: The overlay

extension OverlayPivot {
  private func makeOverlay(_ disk: OverlayDisk, _ nodes: OverlayNodes) async throws {
    try OverlayFile.removeIfEmpty(disk.overlayPath)
    guard !OverlayFile.holdsSomething(disk.overlayPath) else {
      throw GuestDiskError.overlayIsThere(disk.name, image: disk.path, overlay: disk.overlayPath)
    }
    try OverlayFile.make(disk.overlayPath, for: disk.path)
    do {
      try await client.blockdevAdd(nodes.overlayFile)
      let job = "gc-" + disk.name
      try await client.createQcow2(
        job: job, file: disk.overlayFileName, byteCount: disk.byteCount, backing: disk.path)
      while true {
        guard let made = try await client.queryJobs().first(where: { $0.id == job }) else {
          throw GuestDiskError.copyEnded(disk.name, detail: "nobody knows why")
        }
        if made.status == .concluded {
          try await client.jobDismiss(job)
          if let error = made.error { throw GuestDiskError.copyEnded(disk.name, detail: error) }
          break
        }
        try await Task.sleep(nanoseconds: Self.pollNs)
      }
      try await client.blockdevAdd(nodes.overlay(over: nil))
    } catch {
      try? OverlayFile.removeIfEmpty(disk.overlayPath)
      throw error
    }
  }

  /// Until the copy has ended, well or not.
  private func follow(_ disk: OverlayDisk, _ report: inout Report) async throws {
    var isTold = false
    var heldUs: UInt64 = 0
    while let job = try await job(disk) {
      switch job.status {
      case .ready where !isTold:
        isTold = true
        heldUs = MonotonicClock.nowUs
        do {
          try await client.jobComplete(job.id)
        } catch {
          // Somebody before us may have told it.
          if try await self.job(disk)?.status == .ready { throw error }
        }
        continue
      case .pending:
        try await finish(disk, job)
        if heldUs != 0 { report.switchUs = max(report.switchUs, MonotonicClock.nowUs - heldUs) }
        report.copiedBytes &+= job.currentProgress
      case .concluded:
        guard let error = job.error else { return }
        // Not changed over after all.
        try? OverlayFile.takeBack(disk.overlayPath)
        throw GuestDiskError.copyEnded(disk.name, detail: error)
      case .running, .ready, .other: break
      }
      try await Task.sleep(nanoseconds: isTold ? 1_000_000 : Self.pollNs)
    }
    throw GuestDiskError.copyEnded(disk.name, detail: "QEMU has forgotten it")
  }

  /// The overlay holds nothing that isn't below it, and the guest's requests are held: takes it away. Its file loses its
  /// name first: once the guest writes past it, nobody may take it for the disk.
  private func finish(_ disk: OverlayDisk, _ job: JobInfo) async throws {
    // Whoever interrupts us has to wait for that moment to be over.
    let ends = [SIGINT, SIGTERM, SIGHUP].map { ($0, signal($0, SIG_IGN)) }
    defer { for (number, handler) in ends { _ = signal(number, handler) } }
    do {
      try OverlayFile.setAside(disk.overlayPath)
    } catch {
      try await client.jobCancel(job.id)
      try OverlayFile.takeBack(disk.overlayPath)
      throw error
    }
    try await client.jobFinalize(job.id)
  }

  private func cancel(_ disk: OverlayDisk) async throws {
    try await client.blockJobCancel(job: disk.jobName, force: true)
    while let job = try await job(disk), job.status != .concluded {
      try await Task.sleep(nanoseconds: Self.pollNs)
    }
  }
}
