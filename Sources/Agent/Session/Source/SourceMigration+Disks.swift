import Base
import HostIO
import Logging
import QMP
import Strategy
import Wire

// The guest's disks, from what was asked for to copies that follow what the guest writes.
extension SourceMigration {
  /// How often the copies are looked at, in milliseconds.
  static let diskLookMs: UInt64 = 100
  /// The oldest QEMU that can have the guest's writes go to both sides later on.
  static let mirrorChangeVersion = QEMUVersion(8, 2)

  /// The disks that the hosts do not share.
  func agreeOnDisks(
    _ claims: [ClaimedDisk]?, _ offer: PeerMessage.PrepareOffer
  ) throws -> [MovingDisk] {
    guard let claims else { return [] }
    guard let answers = offer.disks, answers.map(\.device) == claims.map(\.claim.device) else {
      throw Ending.refused([
        Refusal(
          .disks, "the agent at \(request.destination) takes no disks",
          remedy: "install this version of Godwit there")
      ])
    }
    let moving = zip(claims, answers).compactMap { disk, answer in
      answer.isShared
        ? nil
        : MovingDisk(target: disk.target, claim: disk.claim, destinationPath: answer.path)
    }
    for disk in moving {
      logger.info(
        "the disk moves",
        metadata: [
          "disk": "\(disk.claim.name)", "bytes": "\(disk.claim.byteCount)",
          "to": "\(disk.destinationPath)",
        ])
    }
    guard !moving.isEmpty else { return [] }
    note { state in
      let bytes = moving.reduce(0) { $0 &+ $1.claim.byteCount }
      (state.progress.diskBytes, state.progress.diskRemainingBytes) = (bytes, bytes)
    }
    return moving
  }

  /// Copies the disks until little is left; the copies go on.
  func copyDisks(_ setup: Setup, _ undo: inout SourceUndo) async throws {
    guard !setup.moving.isEmpty else { return }
    try await enter(.disks)
    let mirror = try await openMirror(setup)
    undo.disks = mirror
    let method = request.disks?.method ?? .auto
    try await mirror.begin(
      method == .mirror ? .writeBlocking : .background,
      bytesPerSecond: request.bandwidthBytesPerSecond)
    var machine = DiskCopyMachine(
      method, canChange: setup.facts.version >= Self.mirrorChangeVersion,
      byteCount: mirror.byteCount)
    while true {
      if let event = await mailbox.take(timeoutMs: Self.diskLookMs) {
        if case .peer(.message(let message)) = event, let ending = Ending(message) { throw ending }
        try check(event)
      }
      let look = try await mirror.look()
      noteDisks(look, mirror)
      switch machine.look(
        nowMs: MonotonicClock.nowMs, owedBytes: look.owedBytes, isReady: look.isReady)
      {
      case .goOn: continue
      case .writeToBoth:
        logger.info("the guest's writes go to both sides")
        try await mirror.writeToBoth()
      case .ready: return undo.pauseGuard = try await guardPause(setup)
      case .abandon(let reason): throw Ending.failed(reason)
      }
    }
  }

  /// The ways to the destination, and a socket that leads QEMU to them.
  private func openMirror(_ setup: Setup) async throws -> DiskMirror {
    guard let token = MigrationID(setup.offer.token) else {
      throw Ending.failed("\(request.destination) sent a token that is none")
    }
    var opened: [any ByteConnection] = []
    for lane in 1...UInt16(setup.moving.count) {
      opened.append(try await connect(role: .disk, lane: lane, token: token))
    }
    let (connections, share, folder) = (opened, share, configuration.runtimeDirectory)
    let (path, pid) = (
      folder + "/" + String(id.description.prefix(12)) + ".mirror", setup.vm.process?.pid
    )
    let tunnel = try await Blocking.run {
      try DiskTunnel(path: path, in: folder, admitting: pid, connections: connections) {
        share.take($0)
      }
    }
    return DiskMirror(
      setup.moving, DiskMirror.handles(setup.moving, id: id.description), tunnel,
      setup.monitor.client)
  }

  /// From the guest's stop until its disks are complete QEMU waits for us: whatever becomes of us.
  private func guardPause(_ setup: Setup) async throws -> PauseGuard {
    let label = String(id.description.prefix(12))
    return try await PauseGuard.start(
      monitor: setup.vm.monitorPath,
      socket: "\(configuration.runtimeDirectory)/\(label).guard")
  }

  /// Puts what the copies say into the progress: the memory is still to come.
  func noteDisks(_ look: DiskMirror.Look, _ mirror: DiskMirror) {
    let (sent, now) = (mirror.tunnel.sentBytes, MonotonicClock.nowMs)
    let total = mirror.byteCount
    note { state in
      state.record.disk.wireBytes = sent
      state.progress.diskRemainingBytes = look.owedBytes
      guard state.progress.phase == .disks else { return }
      (state.progress.wireBytes, state.record.wireBytes) = (sent, sent)
      if let last = state.lastWire, now >= last.atMs + 500 {
        state.progress.wireBytesPerSecond =
          (sent - min(last.bytes, sent)) * 1000 / (now - last.atMs)
        state.lastWire = (now, sent)
      } else if state.lastWire == nil {
        state.lastWire = (now, sent)
      }
      let done = total - min(look.owedBytes, total)
      state.progress.progressPermille = max(
        state.progress.progressPermille, done.scaled(by: state.diskPermille, over: max(total, 1)))
      let rate = state.progress.wireBytesPerSecond
      state.progress.etaMs =
        rate == 0
        ? nil : (look.owedBytes &+ state.progress.ramBytes).scaled(by: 1000, over: rate)
    }
    report()
  }

  /// Takes what is left of the copies out of QEMU; the guest goes on with its disks.
  func tidyDisks(_ undo: SourceUndo) async {
    guard let disks = undo.disks, let monitor = undo.monitor, !monitor.isClosed else { return }
    await DiskMirror.tidy(disks.handles, monitor.client, logger: logger)
  }
}

extension SourceMigration.State {
  /// The disks' part of all the work, in thousandths: they and the memory count by their bytes.
  var diskPermille: UInt64 {
    guard let disks = progress.diskBytes, disks > 0 else { return 0 }
    return disks.scaled(by: 1000, over: max(disks &+ progress.ramBytes, 1))
  }

  /// How far all is when the memory is so far, in thousandths.
  func overall(_ memoryPermille: UInt64) -> UInt64 {
    let disks = min(diskPermille, 1000)
    return disks + memoryPermille * (1000 - disks) / 1000
  }
}
