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
    let moving = zip(claims, answers).filter { !$1.isShared }.enumerated().map { number, pair in
      MovingDisk(
        number: number, target: pair.0.target, claim: pair.0.claim,
        destinationPath: pair.1.path, copyInode: pair.1.copyInode, server: pair.0.server)
    }
    if let refusal = DiskSelection.refusal(
      request.disks?.method ?? .auto, movingCount: moving.count)
    {
      throw Ending.refused([refusal])
    }
    if moving.contains(where: { ($0.copyInode != nil) != ($0.claim.updatesCopy == true) }) {
      throw Ending.failed("\(request.destination) confuses new disks with older copies")
    }
    for disk in moving {
      logger.info(
        "the disk moves",
        metadata: [
          "disk": "\(disk.claim.name)", "bytes": "\(disk.claim.byteCount)",
          "to": "\(disk.destinationPath)", "by": "\(disk.server?.socket ?? "QEMU")",
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
    let copies = try await openCopies(setup)
    undo.disks = copies
    let wishes = request.disks ?? DiskWishes()
    try await copies.begin(wishes, bytesPerSecond: request.bandwidthBytesPerSecond)
    // Of what QEMU copies; servers decide for themselves.
    var machine = DiskCopyMachine(
      wishes.method, canChange: setup.facts.version >= Self.mirrorChangeVersion,
      byteCount: copies.mirror?.byteCount ?? 0)
    let takenBytes = setup.moving.reduce(0 as UInt64?) { sum, disk in
      disk.claim.takenBytes.flatMap { sum?.addingSaturating($0) }
    }
    var deadline = request.withinMs.map { DiskDeadline(withinMs: $0, takenBytes: takenBytes) }
    while true {
      if let event = await mailbox.take(timeoutMs: Self.diskLookMs) {
        if case .peer(.message(let message)) = event, let ending = Ending(message) { throw ending }
        try check(event)
      }
      let look = try await copies.look()
      noteDisks(look, copies)
      try hold(look, copies, to: &deadline)
      let effect =
        look.mirrored.map {
          machine.look(
            nowMs: MonotonicClock.nowMs, owedBytes: $0.owedBytes, isReady: $0.isReady)
        } ?? .ready
      switch effect {
      case .goOn: continue
      case .writeToBoth:
        logger.info("the guest's writes go to both sides")
        try await copies.mirror?.writeToBoth()
      case .ready:
        guard look.moved?.isReady != false else { continue }
        return undo.pauseGuard = try await guardPause(setup)
      case .abandon(let reason): throw Ending.failed(reason)
      }
    }
  }

  /// Ends copies that are not done in the user's time; the guest goes on with its disks.
  private func hold(
    _ look: DiskCopies.Look, _ copies: DiskCopies, to deadline: inout DiskDeadline?
  ) throws {
    let verdict = deadline?.look(
      elapsedMs: MonotonicClock.nowMs - startedAtMs, owedBytes: look.owedBytes,
      sentBytes: copies.sentBytes)
    switch verdict {
    case .refuse(let reason):
      throw Ending.refused([Refusal(.request, reason, remedy: "give it more time, or bandwidth")])
    case .abandon(let reason): throw Ending.failed(reason)
    case .goOn, nil: break
    }
  }

  /// The ways to the destination, and sockets that lead there.
  private func openCopies(_ setup: Setup) async throws -> DiskCopies {
    guard let token = MigrationID(setup.offer.token) else {
      throw Ending.failed("\(request.destination) sent a token that is none")
    }
    let (folder, id, share) = (configuration.runtimeDirectory, id.description, share)
    let copied = setup.copied
    let served = setup.moving.filter { $0.server != nil }
    var moves: ServerMoves?
    if !served.isEmpty {
      let dial = diskDial(token)
      let tunnels = try await Blocking.run {
        try ServerMoves.tunnels(
          served, in: folder, id: id, copied: copied, dial: dial
        ) { share.take($0) }
      }
      moves = ServerMoves(
        served, ServerMoves.handles(served, in: folder, id: id), tunnels,
        patienceMs: request.networkPatienceMs)
    }
    do {
      return DiskCopies(setup.moving, try await openMirror(setup, token), moves)
    } catch {
      moves?.cut()
      throw error
    }
  }

  /// Opens one more connection for blocks of disks.
  private func diskDial(_ token: MigrationID) -> @Sendable () throws -> any ByteConnection {
    let (destination, id, security) = (request.destination, id, PeerSecurity(configuration))
    return {
      try PeerConnection.open(
        destination, Hello(role: .disk, lane: 1, migration: id, token: token),
        security: security, timeoutMs: Self.redialTimeoutMs)
    }
  }

  /// For the disks that QEMU copies; nil: there are none.
  private func openMirror(_ setup: Setup, _ token: MigrationID) async throws -> DiskMirror? {
    let disks = setup.moving.filter { $0.server == nil }
    guard !disks.isEmpty else { return nil }
    var opened: [any ByteConnection] = []
    for lane in 1...UInt16(disks.count) {
      opened.append(try await connect(role: .disk, lane: lane, token: token))
    }
    let (connections, share, folder) = (opened, share, configuration.runtimeDirectory)
    let copied = setup.copied
    let path = folder + "/" + String(id.description.prefix(12)) + ".mirror"
    let process = setup.vm.process.map { "/proc/\($0.pid)" }
    let tunnel = try await Blocking.run {
      try DiskTunnel(
        path: path, in: folder, admitting: process, connections: connections, copied: copied
      ) { share.take($0) }
    }
    return DiskMirror(
      disks, DiskMirror.handles(disks, id: id.description), tunnel, setup.monitor.client)
  }

  /// From the guest's stop until its disks are complete QEMU waits for us: whatever becomes of us.
  private func guardPause(_ setup: Setup) async throws -> PauseGuard {
    let label = String(id.description.prefix(12))
    return try await PauseGuard.start(
      monitor: setup.vm.monitorPath,
      socket: "\(configuration.runtimeDirectory)/\(label).guard")
  }

  /// Puts what the copies say into the progress: the memory is still to come.
  func noteDisks(_ look: DiskCopies.Look, _ copies: DiskCopies) {
    let (sent, now) = (copies.sentBytes, MonotonicClock.nowMs)
    let total = copies.byteCount
    note { state in
      state.record.disk.wireBytes = sent
      state.record.disk.bytesReadAtSource = look.readBytes
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

  /// Takes what is left of the copies back; the guest goes on with its disks.
  func tidyDisks(_ undo: SourceUndo) async {
    guard let disks = undo.disks, let monitor = undo.monitor else { return }
    await disks.tidy(monitor.isClosed ? nil : monitor.client, logger: logger)
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
