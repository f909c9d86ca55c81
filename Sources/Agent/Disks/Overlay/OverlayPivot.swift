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

  /// How a way is gone.
  private struct Manner {
    /// The guest's discards give space back.
    let discard: Bool
    /// Dirty bitmaps that QEMU forgets on the way aren't wanted.
    let dropsBitmaps: Bool
  }

  let client: QMPClient
  /// Told what is being done, for people.
  let tell: @Sendable (String) -> Void
  /// Starts a guard for the disk of a name; nil: nobody guards it.
  let guarding: (@Sendable (String) async throws -> CopyGuard)?
  /// More steps than any way has.
  private static let stepsMax = 64
  static let pollNs: UInt64 = 10_000_000

  public init(
    _ client: QMPClient, guarding: (@Sendable (String) async throws -> CopyGuard)? = nil,
    tell: @escaping @Sendable (String) -> Void
  ) {
    (self.client, self.guarding, self.tell) = (client, guarding, tell)
  }

  /// nil: no qcow2 disk is called that.
  public func find(_ name: String) async throws -> OverlayDisk? {
    try OverlayDisk.find(
      name, devices: try await client.queryBlock(), nodes: try await client.queryBlockNodes(),
      lineages: try await client.queryBlockLineages())
  }

  /// Puts the disk on the server. When that fails it is taken back to its image before the error is thrown.
  ///
  /// - Parameters:
  ///   - discard: the guest's discards give space back.
  ///   - dropsBitmaps: also when QEMU then forgets dirty bitmaps of the disk.
  public func attach(
    _ disk: OverlayDisk, to server: some ImageServer, discard: Bool, dropsBitmaps: Bool = false
  ) async throws -> Report {
    guard try await isOpen(disk, .server) else {
      throw GuestDiskError.alreadyAttached(disk.name)
    }
    return try await run(
      disk, server, Manner(discard: discard, dropsBitmaps: dropsBitmaps), .server)
  }

  /// Takes the disk back to its image. When that fails it is put on the server again before the error is thrown.
  /// Interrupted (`HeldSignals`), it throws `onTheWay`, and leaves the disk there; so does `attach`.
  public func detach(
    _ disk: OverlayDisk, from server: some ImageServer, discard: Bool, dropsBitmaps: Bool = false
  ) async throws -> Report {
    guard try await isOpen(disk, .file) else {
      // Whoever brought it back may have died before the server heard of it.
      await rest(server)
      throw GuestDiskError.notAttached(disk.name)
    }
    return try await run(
      disk, server, Manner(discard: discard, dropsBitmaps: dropsBitmaps), .file)
  }

  /// Whether anything is left to be done.
  private func isOpen(_ disk: OverlayDisk, _ goal: OverlayStep.Goal) async throws -> Bool {
    OverlayStep.next(disk, job: try await job(disk)?.status, goal: goal) != nil
  }

  private func run(
    _ disk: OverlayDisk, _ server: some ImageServer, _ manner: Manner, _ goal: OverlayStep.Goal
  ) async throws -> Report {
    var report = Report()
    do {
      try await drive(disk, server, manner, goal, &report)
    } catch let error as GuestDiskError where error.isOnTheWay {
      throw error
    } catch {
      tell("going back: \(error)")
      do {
        try await drive(disk, server, manner, goal == .file ? .server : .file, &report)
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
    _ disk: OverlayDisk, _ server: some ImageServer, _ manner: Manner, _ goal: OverlayStep.Goal,
    _ report: inout Report
  ) async throws {
    for _ in 0..<Self.stepsMax {
      guard let now = try await find(disk.name) else {
        throw GuestDiskError.notFound(disk.name, known: [])
      }
      try await restoreName(now)
      guard let step = OverlayStep.next(now, job: try await job(now)?.status, goal: goal) else {
        if goal == .file { await rest(server) }
        return
      }
      try await carryOut(step, now, server, manner, &report)
    }
    throw GuestDiskError.ambiguous(disk.name)
  }

  func job(_ disk: OverlayDisk) async throws -> JobInfo? {
    try await client.queryJobs().first { $0.id == disk.jobName }
  }

  private func carryOut(
    _ step: OverlayStep, _ disk: OverlayDisk, _ server: some ImageServer, _ manner: Manner,
    _ report: inout Report
  ) async throws {
    let nodes = OverlayNodes(disk, discard: manner.discard)
    switch step {
    case .freeze:
      try checkBitmaps(disk, manner)
      if disk.place == .file { try await checkMayGo(disk) }
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
      _ = try await endMaking(disk)
      try OverlayFile.setAside(disk.overlayPath)
      try await remove([disk.overlayName, disk.overlayFileName], disk)
      try OverlayFile.remove(disk.overlayPath)
    case .dropServer: try await remove([disk.serverName, disk.serverFileName], disk)
    }
  }

  /// What QEMU keeps in the image is there again with the image; the rest goes with the node.
  private func checkBitmaps(_ disk: OverlayDisk, _ manner: Manner) throws(GuestDiskError) {
    let busy = disk.bitmaps.filter(\.isBusy)
    guard busy.isEmpty else { throw .busyBitmaps(disk.name, busy.map(\.name)) }
    let lost = disk.bitmaps.filter { !$0.isPersistent }
    guard lost.isEmpty || manner.dropsBitmaps else {
      throw .losesBitmaps(disk.name, lost.map(\.name))
    }
  }

  /// What can be refused of a disk on its image is refused before anything changes.
  private func checkMayGo(_ disk: OverlayDisk) async throws {
    if disk.layers.count > 1 {
      guard try await BackingChain.read(disk.path).isSame(as: disk.layers) else {
        throw GuestDiskError.otherBacking(disk.name, image: disk.path)
      }
    }
    // QEMU removes no node that another one uses, but says first whose it is: one that was defined within another one
    // goes with that, and there would be no way back.
    do {
      try await client.blockdevDel(nodeName: disk.fileNodeName)
    } catch let error where error.detail.contains("not owned by the monitor") {
      throw GuestDiskError.fileWithin(disk.name, node: disk.fileNodeName)
    } catch {}
  }

  /// The server needn't have the image open any more. One that is gone hasn't.
  private func rest(_ server: some ImageServer) async {
    do { try await server.rest() } catch {
      tell("the server wasn't told that QEMU has the image: \(error)")
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
