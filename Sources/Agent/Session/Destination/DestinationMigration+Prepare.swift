import Base
import HostIO
import QEMUStream
import QMP
import Wire

extension DestinationMigration {
  /// Starts QEMU for the VM and offers what the source may use.
  func prepare(
    _ request: PeerMessage.PrepareRequest, _ undo: inout DestinationUndo
  ) async throws -> IncomingQEMU {
    if let refusal = AllowRule.refusal(configuration.allow, vm: request.vm, peerNames: peerNames) {
      throw Ending.refused([refusal])
    }
    let launch: QEMULaunch
    do {
      launch = try QEMULaunch.prepare(
        name: request.vm, sourceProgram: request.commandLine.first ?? "",
        sourceArguments: Array(request.commandLine.dropFirst()),
        machineType: request.source.machineType, configuration: configuration)
    } catch let refusal as LaunchRefusal {
      throw Ending.refused([Refusal(.request, refusal.cause, remedy: refusal.remedy)])
    } catch let error as ConfigurationError {
      throw Ending.refused([
        Refusal(.request, "\(error)", remedy: "mend the file at the destination")
      ])
    }
    let host = try await HostFacts.gather()

    let journal = try Journal(directory: configuration.journalDirectory, id: id.description)
    undo.journal = journal
    let start = JournalRecord.DestinationStart(
      id: id.description, vm: request.vm, source: link.lane.peer,
      resumeGuest: request.source.isRunning, peerNames: peerNames)
    try await journal.append(.destinationBegan(start))
    let answers = try await takeDisks(request, launch, journal, &undo)
    let qemu: IncomingQEMU
    do {
      qemu = try await IncomingQEMU.start(
        launch, id: IncomingQEMU.label(id.description), mayPull: request.pull == true,
        configuration: configuration)
    } catch let refusal as LaunchRefusal {
      throw Ending.refused([Refusal(.request, refusal.cause, remedy: refusal.remedy)])
    } catch let error as QEMUStartError {
      throw Ending.refused([
        Refusal(
          .destinationState, "\(error)",
          remedy: "mend the VM's definition or its files at the destination")
      ])
    }
    undo.qemu = qemu
    try await journal.append(
      .destinationStarted(
        start,
        .init(
          pid: qemu.identity.pid, processStart: qemu.identity.startTime,
          monitorPath: qemu.monitorPath)))
    Task { [mailbox] in
      if await qemu.identity.waitUntilGone() { mailbox.put(.qemuGone) }
    }
    let facts = try await VMFacts.gather(qemu.monitor.client)
    try await checkDisks(facts, request, undo)
    state.update { state in
      state.progress.ramBytes = facts.ramBytes
      state.progress.strategy = request.strategy
    }
    let shared =
      request.pageSource == .inline
      ? [] : try await SharedMemoryBackend.locate(qemu.monitor.client, pid: qemu.identity.pid)
    let mayPull = request.pull == true ? await preparePull(qemu, facts) : nil
    undo.audits = request.audit
    undo.snapshot = await findSnapshot(request)
    undo.vault = await findOthers(request, undo.snapshot)
    let copies = request.copiedBlocks == true ? undo.disks?.wanted.map(\.path) ?? [] : []
    let images = await HeldImages.offer(
      request.images, copies: copies, qemu.monitor.client, vm: request.vm, configuration)
    undo.images = images?.held
    undo.gang = await gangPart(request, qemu, mayPull: mayPull == true)
    try link.send(
      .offer(
        .init(
          destination: facts, host: host, token: token.description,
          windowBytes: configuration.windowBytes,
          sharedBlocks: shared.map(\.blockName), mayPull: mayPull,
          encodings: PeerMessage.PageEncoding.allCases.map(\.rawValue),
          snapshot: undo.snapshot.flatMap { PeerMessage.SnapshotOffer($0) },
          vault: undo.vault.compactMap { PeerMessage.FurtherSnapshot($0) },
          images: images.flatMap { $0.matches.isEmpty ? nil : $0.matches }, disks: answers,
          gangBlocks: undo.gang.map { Array($0.places.keys) })))
    return qemu
  }

  /// Lets QEMU listen, connects to it, and opens the entrance for the data lanes.
  func open(
    _ order: PeerMessage.BeginOrder, _ qemu: IncomingQEMU, _ undo: inout DestinationUndo
  ) async throws {
    guard (1...configuration.laneCountMax).contains(order.laneCount) else {
      throw Ending.refused([
        Refusal(
          .request,
          "\(order.laneCount) lanes asked for, the destination allows \(configuration.laneCountMax)",
          remedy: "use --lanes \(configuration.laneCountMax), or raise laneCountMax there")
      ])
    }
    let client = qemu.monitor.client
    let capabilities = try await client.queryMigrateCapabilities()
    if capabilities.exists("events") { try await client.migrateSetCapabilities(["events": true]) }
    let mayPull = order.mayPull == true
    if !mayPull, capabilities.states["postcopy-ram"] == true {
      try await client.migrateSetCapabilities(["postcopy-ram": false])
      let kept = IncomingQEMU.keptMonitorPath(qemu.monitorPath)
      try await Blocking.run { MonitorKeeper.end(kept) }
    }
    let path = qemu.monitorPath + ".in"
    try await client.migrateIncoming(uri: "unix:" + path)
    let socket = try await Blocking.run { try UnixSocket.connect(path: path) }

    var shared: [String: SharedFile] = [:]
    let backends = try await SharedMemoryBackend.locate(client, pid: qemu.identity.pid)
    for block in backends where order.inPlaceBlocks.contains(block.blockName) {
      shared[block.blockName] = try SharedFile(
        path: block.path, offset: block.offset, length: block.length, writable: true)
    }
    let snapshot = await openSnapshot(order, undo)
    let vault = await openVault(order, undo, snapshot)
    let relay = DestinationRelay(
      qemu: socket, control: link.lane, shared: shared,
      windowBytes: configuration.windowBytes,
      memoryLimit: configuration.memoryLimitBytes, mayPull: mayPull,
      identifies: order.identifies == true, identifiesStored: order.identifiesStored == true,
      audits: undo.audits,
      snapshot: snapshot, vault: vault, images: undo.images, gang: undo.gang?.held(gangs)
    ) { [mailbox] in mailbox.put(.relay($0)) }
    undo.relay = relay
    link.setRelay { [weak relay] (type, payload) throws(RelayFailure) in
      try relay?.arrived(type, payload)
    }
    link.setLayout {
      [weak relay, gangs, gang = undo.gang] (blocks, sectionID) throws(RelayFailure) in
      try relay?.setLayout(blocks, sectionID: sectionID)
      if let gang { gangs.add(gang.key, blocks.map { gang.places[$0.name] }) }
    }
    link.setProgress { [state] progress in state.update { progress.update(&$0.progress) } }
    relay.start()
    state.update { state in
      state.relay = relay
      state.laneCount = UInt16(order.laneCount)
    }
    // From here on the source journals what it does, and comes back.
    let patienceMs = order.networkPatienceMs + min(order.networkPatienceMs, Self.patienceMarginMs)
    link.lane.setRecovery(LaneRecovery(patienceMs: { patienceMs }, dial: nil))
    enter(.bulk)
    try link.send(.ready)
    if let snapshot {
      snapshot.tell(over: link.lane, with: vault)
    } else if order.snapshot != nil {
      try HeldSnapshot.tellNothing(over: link.lane)
    }
  }

  /// Waits until QEMU has taken the whole stream and stands there paused.
  func load(_ qemu: IncomingQEMU, _ undo: inout DestinationUndo) async throws {
    let events = Task { [mailbox] in
      for await event in qemu.monitor.client.events() where event.name == "MIGRATION" {
        mailbox.put(.relay(.streamFed))
      }
    }
    defer { events.cancel() }
    var pollMs: UInt64 = 200
    while true {
      if let event = await mailbox.take(timeoutMs: pollMs) {
        if case .relay(.streamFed) = event { pollMs = Self.loadPollMs }
        do {
          if case .closeDisks? = try message(in: event, &undo) { try await closeDisks(undo) }
        } catch { throw await explained(error, qemu) }
      }
      let info: MigrationInfo
      do { info = try await qemu.monitor.client.queryMigrate(timeoutMs: 30_000) } catch {
        if error.isDisconnected { throw await explained(Ending.failed("\(error)"), qemu) }
        continue  // busy loading; its end arrives as an event
      }
      switch info.status {
      case .completed:
        let status = try await qemu.monitor.client.queryStatus()
        if status.state == .inMigrate { continue }
        guard !status.isRunning else {
          throw Ending.failed(
            "the destination's QEMU runs the guest before the commit; is -S missing?")
        }
        return try checkDisksAreClosed(undo)
      case .postcopyActive:
        // The devices are loaded once QEMU stands there paused; its memory follows.
        guard undo.relay?.pull != nil else { continue }
        let status = try await qemu.monitor.client.queryStatus()
        if status.state == .inMigrate { continue }
        guard !status.isRunning else {
          throw Ending.failed(
            "the destination's QEMU runs the guest before the commit; is -S missing?")
        }
        try checkDisksAreClosed(undo)
        return try await notePull(undo)
      case .failed, .cancelled:
        throw await explained(
          Ending.failed(info.errorDescription ?? "loading the state failed"), qemu)
      default: break
      }
    }
  }

  /// Adds QEMU's last words, once it has had a moment to say them.
  private func explained(_ error: any Error, _ qemu: IncomingQEMU) async -> any Error {
    guard case .failed(let text) = error as? Ending else { return error }
    _ = try? await qemu.waitForExit(timeoutMs: 300)
    let words = qemu.logTail()
    return words.isEmpty ? error : Ending.failed("\(text); QEMU says: \(words)")
  }
}
