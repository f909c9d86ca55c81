import Base
import HostIO
import Logging
import QEMUStream
import QMP
import Strategy
import Wire

extension SourceMigration {
  /// What runs while pages move.
  struct Copy: Sendable {
    let relay: SourceRelay
    let holdsByAck: Bool
    let pinsBandwidth: Bool
    /// Nil where QEMU's own rule decides when to stop the guest.
    let strategy: StrategyName?
    /// Nil where no strategy limits the guest's processors.
    let vcpus: VCPUControl?
    let journal: Journal
    /// How connections come back that broke.
    let recovery: LaneRecovery
    /// Which pages the destination may make itself should it pull them; nil: it has nothing to make them of.
    let identifier: PullIdentifier?
    /// The destination wants to know which pages are hot should it pull them.
    let saysHeat: Bool
    /// Makes pages small that the destination pulls ahead; nil: they go as they are.
    let pullPacking: PullPacking?
    /// Copies of disks that go on; nil: none.
    let disks: DiskCopies?
    let pauseGuard: PauseGuard?
  }

  /// The source's QEMU as it was before anything was changed.
  struct Origin: Sendable {
    let capabilities: MigrationCapabilities
    let parameters: MigrationParameters
    let journal: Journal
  }

  /// Writes down how everything is, before anything changes.
  func openJournal(_ setup: Setup, _ undo: inout SourceUndo) async throws -> Origin {
    let client = setup.monitor.client
    let capabilities = try await client.queryMigrateCapabilities()
    let parameters = try await client.queryMigrateParameters()
    let status = try await client.queryStatus()
    undo.guestWasRunning = status.isRunning
    let journal = try Journal(directory: configuration.journalDirectory, id: id.description)
    undo.journal = journal
    try await journal.append(.sourceBegan(journalStart(setup, capabilities, parameters, status)))
    return Origin(capabilities: capabilities, parameters: parameters, journal: journal)
  }

  /// Lets the destination's QEMU listen, opens the lanes, points the source's QEMU at us.
  func begin(
    _ setup: Setup, _ origin: Origin, _ undo: inout SourceUndo
  ) async throws -> Copy {
    let client = setup.monitor.client
    let (capabilities, parameters) = (origin.capabilities, origin.parameters)
    guard let token = MigrationID(setup.offer.token) else {
      throw Ending.failed("\(request.destination) sent a token that is none")
    }
    let recovery = laneRecovery(token)
    setup.link.lane.setRecovery(recovery)
    let held = heldPages(setup)
    if let held {
      // The filters come as soon as the destination is ready.
      setup.link.setRelay { (type, payload) throws(RelayFailure) in
        guard type == .snapshotFilters else {
          throw .protocolViolation("\(type) frame before the migration began")
        }
        try held.arrived(payload)
      }
    }
    let identifier =
      setup.mayPull
      ? PullIdentifier(
        held: held, disks: compaction(setup)?.disks,
        namesStored: encodings(setup).contains(.pullVault)) : nil
    try setup.link.send(
      .begin(
        .init(
          laneCount: request.laneCount, inPlaceBlocks: setup.inPlaceBlocks,
          networkPatienceMs: request.networkPatienceMs, mayPull: setup.mayPull,
          snapshot: held?.offer.id, vault: held?.elsewhere?.furtherCount,
          identifies: identifier == nil ? nil : true,
          identifiesStored: identifier?.elsewhere == nil ? nil : true)))
    guard
      case .ready = try await nextMessage(
        timeoutMs: Self.answerTimeoutMs, waitingFor: "the destination's QEMU to listen")
    else { throw Ending.failed("\(request.destination) answered `begin` with something else") }
    var lanes: [any ByteConnection] = []
    for lane in 1...UInt16(request.laneCount) {
      lanes.append(try await connect(role: .data, lane: lane, token: token))
    }

    if let held {
      try await Blocking.run { held.waitUntilComplete(timeoutMs: Self.filtersTimeoutMs) }
    }

    undo.settings = (capabilities, parameters)
    let holdsByAck = capabilities.exists("switchover-ack")
    let pins = parameters.exists("avail-switchover-bandwidth")
    let named = StrategyName(rawValue: request.strategy) ?? .precopy
    let strategy = named == .precopy && request.withinMs == nil ? nil : named
    try await configure(
      client, capabilities, parameters, holdsByAck: holdsByAck, isHeld: strategy != nil,
      pauses: undo.disks != nil)
    if undo.disks != nil { watchForPause(client) }
    var vcpus: VCPUControl?
    if strategy != nil, request.maxThrottlePercent > 0 {
      vcpus = try await VCPUControl.prepare(
        client, setup.vm.process?.identity, id: id, journal: origin.journal, logger: logger)
      undo.vcpus = vcpus
    }

    let path = configuration.runtimeDirectory + "/" + String(id.description.prefix(12)) + ".out"
    let listener = try UnixSocket.listen(path: path)
    if let pid = setup.vm.process?.pid {
      try UnixSocket.admit(pid: pid, to: path, in: configuration.runtimeDirectory)
    }
    undo.isMigrating = true
    do { try await client.migrate(uri: "unix:" + path) } catch {
      // What QEMU has refused isn't ours to end: another migration may be under way.
      if case .refused = error.code { undo.isMigrating = false }
      throw error
    }
    let accepted = try await Blocking.run { try listener.accept(timeoutMs: Self.answerTimeoutMs) }
    guard let qemu = accepted else {
      let info = try await client.queryMigrate()
      throw Ending.failed(
        "QEMU did not connect to the agent's socket: \(info.errorDescription ?? info.status.name)")
    }
    let setup = await located(setup)
    let queue = SendQueue(
      windowMax: setup.offer.windowBytes,
      bandwidth: request.bandwidthBytesPerSecond.flatMap { ByteRate(bytesPerSecond: $0) },
      link: share)
    let relay = SourceRelay(
      qemu: qemu, control: setup.link.lane, lanes: lanes, queue: queue,
      memoryLimit: configuration.memoryLimitBytes, shared: setup.shared, mayPull: setup.mayPull,
      compaction: compaction(setup), readable: setup.readable,
      readsAll: request.pageSource == .auto, held: held, recovery: recovery
    ) { [mailbox] in mailbox.put(.relay($0)) }
    setup.link.setRelay { [weak relay] (type, payload) throws(RelayFailure) in
      try relay?.arrived(type, payload)
    }
    undo.relay = relay
    if strategy != nil, !holdsByAck { watchForStop(client, relay.ledger) }
    note { $0.progress.laneCount = lanes.count }
    relay.start()
    return Copy(
      relay: relay, holdsByAck: holdsByAck, pinsBandwidth: pins, strategy: strategy, vcpus: vcpus,
      journal: origin.journal, recovery: recovery, identifier: identifier,
      saysHeat: encodings(setup).contains(.pullHeat), pullPacking: pullPacking(setup),
      disks: undo.disks, pauseGuard: undo.pauseGuard)
  }

  /// Looks again where RAM blocks lie: nothing is plugged any more since QEMU was told to migrate, but until then, while
  /// disks were copied perhaps for hours, it may have been.
  private func located(_ setup: Setup) async -> Setup {
    guard let process = setup.vm.process?.identity, !setup.readable.isEmpty else { return setup }
    let seen = try? await SampledMemory.open(setup.monitor.client, process)
    var setup = setup
    // What can't be found again comes with the stream.
    let places = seen?.places ?? [:]
    setup.readable = places.filter { setup.readable[$0.key] != nil }
    setup.shared = places.compactMapValues { place in
      if case .shared(let file) = place { file } else { nil }
    }.filter { setup.shared[$0.key] != nil }
    return setup
  }

  /// The agents find each other again after a break: `request.networkPatienceMs` long, or a moment
  /// while the guest is stopped.
  private func laneRecovery(_ token: MigrationID) -> LaneRecovery {
    let (destination, id, state) = (request.destination, id, state)
    let (patienceMs, security) = (request.networkPatienceMs, PeerSecurity(configuration))
    let stoppedPatienceMs = request.stoppedPatienceMs
    return LaneRecovery(
      patienceMs: {
        let isStopped = state.read { $0.stoppedAtMs != nil || $0.pausedAtMs != nil }
        return isStopped ? min(patienceMs, stoppedPatienceMs) : patienceMs
      },
      dial: { role, lane in
        try PeerConnection.open(
          destination, Hello(role: role, lane: lane, migration: id, token: token),
          security: security, timeoutMs: Self.redialTimeoutMs)
      })
  }

  private func journalStart(
    _ setup: Setup, _ capabilities: MigrationCapabilities, _ parameters: MigrationParameters,
    _ status: VMStatus
  ) -> JournalRecord.SourceStart {
    let mirrored = setup.moving.filter { $0.server == nil }
    let moves = ServerMoves.handles(
      setup.moving, in: configuration.runtimeDirectory, id: id.description)
    return JournalRecord.SourceStart(
      id: id.description, vm: setup.vm.name, destination: request.destination,
      monitorPath: setup.vm.monitorPath, pid: setup.vm.process?.pid ?? 0,
      processStart: setup.vm.process?.startTime ?? 0, capabilities: capabilities.states,
      parameters: JSONValue.object(parameters.values).line, wasRunning: status.isRunning,
      startedAt: state.read { $0.record.startedAt } ?? 0, keepSource: request.keepSource,
      mirrors: mirrored.isEmpty ? nil : DiskMirror.handles(mirrored, id: id.description),
      moves: moves.isEmpty ? nil : moves, token: setup.offer.token)
  }

  /// QEMU writes as fast as we read, keeps the guest until we say SHUT, and waits for our word (or
  /// a limit of 1 ms, before 8.1) with the switchover. A limit of 0 would not hold, see `QEMU.md`.
  private func configure(
    _ client: QMPClient, _ capabilities: MigrationCapabilities, _ parameters: MigrationParameters,
    holdsByAck: Bool, isHeld: Bool, pauses: Bool
  ) async throws {
    var wanted: [String: Bool] = ["return-path": true]
    for name in ["events", "switchover-ack"] where capabilities.exists(name) { wanted[name] = true }
    for name in ["auto-converge", "postcopy-ram"] where capabilities.exists(name) {
      wanted[name] = false
    }
    // QEMU can't hand its disks over while they are still copied.
    if capabilities.exists("pause-before-switchover") { wanted["pause-before-switchover"] = pauses }
    try await client.migrateSetCapabilities(wanted)
    let limitMs =
      holdsByAck && !isHeld
      ? PrecopyMachine(downtimeLimitMs: request.downtimeLimitMs).effectiveLimitMs : 1
    var values: [String: JSONValue] = ["max-bandwidth": 0, "downtime-limit": JSONValue(limitMs)]
    if parameters.exists("avail-switchover-bandwidth") {
      values["avail-switchover-bandwidth"] =
        isHeld ? JSONValue(EngineRun.pinnedBytesPerSecond) : 0
    }
    try await client.migrateSetParameters(values)
  }
}
