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
  }

  /// Lets the destination's QEMU listen, opens the lanes, points the source's QEMU at us.
  func begin(_ setup: Setup, _ undo: inout SourceUndo) async throws -> Copy {
    let client = setup.monitor.client
    let capabilities = try await client.queryMigrateCapabilities()
    let parameters = try await client.queryMigrateParameters()
    let status = try await client.queryStatus()
    undo.guestWasRunning = status.isRunning
    let journal = try Journal(directory: configuration.journalDirectory, id: id.description)
    undo.journal = journal
    try await journal.append(.sourceBegan(journalStart(setup, capabilities, parameters, status)))

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
    try setup.link.send(
      .begin(
        .init(
          laneCount: request.laneCount, inPlaceBlocks: setup.inPlaceBlocks,
          networkPatienceMs: request.networkPatienceMs, mayPull: setup.mayPull,
          snapshot: held?.offer.id)))
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
      client, capabilities, parameters, holdsByAck: holdsByAck, isHeld: strategy != nil)
    var vcpus: VCPUControl?
    if strategy != nil, request.maxThrottlePercent > 0 {
      vcpus = try await VCPUControl.prepare(
        client, setup.vm.process?.identity, id: id, journal: journal, logger: logger)
      undo.vcpus = vcpus
    }

    let path = configuration.runtimeDirectory + "/" + String(id.description.prefix(12)) + ".out"
    let listener = try UnixSocket.listen(path: path)
    if let pid = setup.vm.process?.pid {
      try UnixSocket.admit(pid: pid, to: path, in: configuration.runtimeDirectory)
    }
    undo.isMigrating = true
    try await client.migrate(uri: "unix:" + path)
    let accepted = try await Blocking.run { try listener.accept(timeoutMs: Self.answerTimeoutMs) }
    guard let qemu = accepted else {
      let info = try await client.queryMigrate()
      throw Ending.failed(
        "QEMU did not connect to the agent's socket: \(info.errorDescription ?? info.status.name)")
    }
    let queue = SendQueue(
      windowMax: setup.offer.windowBytes,
      bandwidth: request.bandwidthBytesPerSecond.flatMap { ByteRate(bytesPerSecond: $0) },
      link: share)
    let relay = SourceRelay(
      qemu: qemu, control: setup.link.lane, lanes: lanes, queue: queue,
      memoryLimit: configuration.memoryLimitBytes, shared: setup.shared, mayPull: setup.mayPull,
      compaction: compaction(setup), readable: setup.readable, held: held, recovery: recovery
    ) { [mailbox] in mailbox.put(.relay($0)) }
    setup.link.setRelay { [weak relay] (type, payload) throws(RelayFailure) in
      try relay?.arrived(type, payload)
    }
    undo.relay = relay
    note { $0.progress.laneCount = lanes.count }
    relay.start()
    return Copy(
      relay: relay, holdsByAck: holdsByAck, pinsBandwidth: pins, strategy: strategy, vcpus: vcpus,
      journal: journal, recovery: recovery)
  }

  /// The agents find each other again after a break: `request.networkPatienceMs` long, or a moment
  /// while the guest is stopped.
  private func laneRecovery(_ token: MigrationID) -> LaneRecovery {
    let (destination, id, state) = (request.destination, id, state)
    let (patienceMs, security) = (request.networkPatienceMs, PeerSecurity(configuration))
    let stoppedPatienceMs = request.stoppedPatienceMs
    return LaneRecovery(
      patienceMs: {
        let isStopped = state.read { $0.stoppedAtMs != nil }
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
    JournalRecord.SourceStart(
      id: id.description, vm: setup.vm.name, destination: request.destination,
      monitorPath: setup.vm.monitorPath, pid: setup.vm.process?.pid ?? 0,
      processStart: setup.vm.process?.startTime ?? 0, capabilities: capabilities.states,
      parameters: JSONValue.object(parameters.values).line, wasRunning: status.isRunning,
      startedAt: state.read { $0.record.startedAt } ?? 0, keepSource: request.keepSource)
  }

  /// QEMU writes as fast as we read, keeps the guest until we say SHUT, and waits for our word (or
  /// a limit of 1 ms, before 8.1) with the switchover. A limit of 0 would not hold, see `QEMU.md`.
  private func configure(
    _ client: QMPClient, _ capabilities: MigrationCapabilities, _ parameters: MigrationParameters,
    holdsByAck: Bool, isHeld: Bool
  ) async throws {
    var wanted: [String: Bool] = ["return-path": true]
    for name in ["events", "switchover-ack"] where capabilities.exists(name) { wanted[name] = true }
    for name in ["auto-converge", "pause-before-switchover", "postcopy-ram"]
    where capabilities.exists(name) { wanted[name] = false }
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

  /// Moves pages until the destination says that everything is loaded.
  func copyUntilLoaded(_ setup: Setup, _ copy: Copy) async throws {
    try await enter(.bulk)
    var rule = PrecopyMachine(downtimeLimitMs: request.downtimeLimitMs)
    var engine: EngineRun?
    var nextSampleMs: UInt64 = 0
    while true {
      let intervalMs =
        engine?.isCollecting == true ? EngineRun.collectingIntervalMs : Self.sampleIntervalMs
      if let event = await mailbox.take(timeoutMs: intervalMs) {
        switch event {
        case .peer(.message(.loaded)):
          noteWire(setup, copy)
          return
        case .peer(.message(.failed(let reason))):
          throw Ending.failed("at the destination: \(reason)")
        case .peer(.message(.abort(let reason))):
          throw Ending.failed("given up by the destination: \(reason)")
        case .relay(.stream(let event)):
          try await handle(event, setup)
          if case .layout = event { engine = await makeEngine(setup, copy) }
          if case .handedOver = event {
            engine = nil
            try await fallBackToQEMU(setup, copy)
          }
        case .peer(.connection(let isUp)): connectionChanged(isUp, setup, copy)
        case .qemuGone, .relay(.failed(.qemu)):
          try await confirmSourceIsGone(setup, copy, event)
        default: try check(event)
        }
      }
      let now = MonotonicClock.nowMs
      let isDue = now >= nextSampleMs
      guard isDue || engine?.isCollecting == true else { continue }
      if isDue { nextSampleMs = now + Self.sampleIntervalMs }
      if let stoppedAtMs = state.read({ $0.stoppedAtMs }) {
        guard now < stoppedAtMs + Self.switchoverTimeoutMs else {
          throw Ending.failed(
            "switchover not done after \(Milliseconds.format(Self.switchoverTimeoutMs))")
        }
        noteWire(setup, copy)
        report()
      } else if var running = engine {
        try await sample(setup, copy, &running, isDue: isDue)
        engine = running
      } else {
        try await sample(setup, copy, &rule)
      }
    }
  }

  private func handle(_ event: StreamEvent, _ setup: Setup) async throws {
    switch event {
    case .layout(let blocks, _):
      note { $0.progress.ramBytes = blocks.reduce(0) { $0 + $1.length } }
    case .guestStopped:
      note { state in
        state.stoppedAtMs = MonotonicClock.nowMs
        // Nobody told QEMU to, then: what was expected at the last look.
        let forecast = state.record.forecast.downtimeMs ?? state.progress.expectedDowntimeMs
        state.record.forecast.downtimeMs = forecast
        state.estimator.switchingOver(
          nowMs: MonotonicClock.nowMs, expectedDowntimeMs: state.progress.expectedDowntimeMs)
      }
      setup.link.lane.setSilenceLimit(ms: PeerLink.stoppedSilenceLimitMs)
      try await enter(.switchover)
    case .ended: note { $0.streamHasEnded = true }
    case .handedOver(let reason):
      logger.warning("the stream is passed through unread", metadata: ["reason": "\(reason)"])
    }
  }

  /// The connection between the agents broke, or is there again.
  private func connectionChanged(_ isUp: Bool, _ setup: Setup, _ copy: Copy) {
    if isUp {
      logger.notice("connected again", metadata: ["peer": "\(request.destination)"])
      copy.relay.renewLanes()
    } else {
      logger.warning(
        "the connection broke; the guest goes on, looking for the peer",
        metadata: ["peer": "\(request.destination)"])
    }
    noteWire(setup, copy)
    report()
  }

  /// QEMU's migration socket or monitor ended: either its process died, or it gave the migration up
  /// and runs the guest. When the whole stream was out, SHUT is withheld and the process is dead,
  /// the destination may go on: nothing else ever can. Everything else throws.
  private func confirmSourceIsGone(_ setup: Setup, _ copy: Copy, _ event: Event) async throws {
    guard !state.read({ $0.sourceIsGone }) else { return }
    // Memory that is read out of QEMU's process dies with it.
    let diesWithIt =
      copy.relay.ledger.state.read { $0.pulls }
      && state.read { $0.stoppedMemory?.outlivesQEMU != true }
    let hasEnded = state.read { $0.streamHasEnded } && !diesWithIt
    let identity = setup.vm.process?.identity
    let deadline = MonotonicClock.nowMs + Self.processEndTimeoutMs
    while MonotonicClock.nowMs < deadline {
      if let identity, !identity.isAlive {
        guard hasEnded else {
          throw Ending.sourceLost("the source's QEMU ended during the migration")
        }
        logger.warning("the source's QEMU died; the destination has all of the guest")
        return note { $0.sourceIsGone = true }
      }
      try? await Task.sleep(nanoseconds: 5_000_000)
    }
    try check(event)
    throw Ending.failed("QEMU closed its migration socket before the commit")
  }

  /// How far QEMU says it is; nil when its monitor is busy or it has nothing to say yet.
  func askQEMU(_ setup: Setup) async throws -> MigrationInfo.RAM? {
    let info: MigrationInfo
    do { info = try await setup.monitor.client.queryMigrate(timeoutMs: 5000) } catch {
      // A busy monitor is no reason to give up; a closed one arrives as `qemuGone`.
      logger.debug("query-migrate", metadata: ["error": "\(error)"])
      return nil
    }
    if info.status.isFinal {
      throw Ending.failed("QEMU ended the migration: \(info.errorDescription ?? info.status.name)")
    }
    return info.ram
  }

  /// Looks at QEMU and the lanes, and carries out what QEMU's own rule needs.
  private func sample(
    _ setup: Setup, _ copy: Copy, _ strategy: inout PrecopyMachine
  ) async throws {
    guard let ram = try await askQEMU(setup) else { return }
    let flow = copy.relay.queue.snapshot
    // QEMU reckons in bytes of pages: so must the link's rate, whatever the pages are made into.
    let ratio = flow.counters.packing
    let rate = flow.rate.flatMap {
      ByteRate(bytesPerSecond: $0.bytesPerSecond.scaled(by: ratio.pageBytes, over: ratio.wireBytes))
    }
    let waiting = UInt64(flow.queued) * SendQueue.batchBytes
    let owed = UInt64(copy.relay.ledger.state.read { $0.owedCount }) * UInt64(Page.size)
    let queued = waiting + owed
    var sample = MigrationSample(
      nowMs: MonotonicClock.nowMs, ram: ByteCount(ram.total), remaining: ByteCount(ram.remaining),
      dirtyRate: ByteRate(
        bytesPerSecond: ram.dirtyPagesRate.multipliedReportingOverflow(by: ram.pageSize)
          .partialValue),
      pass: ram.dirtySyncCount, wireRate: rate,
      inFlight: ByteCount(
        flow.inFlight.scaled(by: ratio.pageBytes, over: ratio.wireBytes) + queued))
    let left = min(ram.remaining, ram.total)
    let (pages, done) = (ram.total / UInt64(Page.size), (ram.total - left) / UInt64(Page.size))
    sample.contents = setup.contents.map {
      ByteCount($0.contentPages(from: done, of: pages) * UInt64(Page.size))
    }
    let expected = strategy.expectedDowntimeMs(sample)
    note { state in
      state.estimator.handle(sample, expectedDowntimeMs: expected)
      state.progress.remainingBytes = ram.remaining
      state.progress.workingSetBytes = state.estimator.workingSet.bytes
      state.progress.dirtyBytesPerSecond = sample.dirtyRate?.bytesPerSecond
      state.progress.iteration = ram.dirtySyncCount
      state.progress.expectedDowntimeMs = expected
    }
    noteWire(setup, copy)
    if ram.dirtySyncCount >= 2, progress.phase == .bulk { try await enter(.iterate) }
    for effect in strategy.handle(sample) { try await carryOut(effect, setup, copy) }
    report()
  }

  private func carryOut(_ effect: StrategyEffect, _ setup: Setup, _ copy: Copy) async throws {
    let client = setup.monitor.client
    switch effect {
    case .limitDowntime(let ms):
      try await client.migrateSetParameters(["downtime-limit": JSONValue(ms)])
    case .pinBandwidth(let rate):
      guard copy.pinsBandwidth else { return }
      try await client.migrateSetParameters(
        ["avail-switchover-bandwidth": JSONValue(rate.bytesPerSecond)])
    case .releaseSwitchover:
      if copy.holdsByAck { try copy.relay.answer(.switchoverAck) }
    }
  }

  func noteWire(_ setup: Setup, _ copy: Copy) {
    let bytes = copy.relay.wireBytes
    let counters = copy.relay.queue.snapshot.counters
    let (stopSet, superseded, invalid) = copy.relay.ledger.state.read {
      ($0.stopSetPages, $0.ledger?.supersededCount, $0.invalidPages)
    }
    let condition = setup.link.lane.condition
    let retries = UInt64(condition.breaks + copy.relay.breaks)
    let now = MonotonicClock.nowMs
    note { state in
      state.record.retries = retries
      (state.record.stopSetPages, state.record.supersededPages) = (stopSet, superseded)
      if let invalid, state.record.pull == nil {
        state.record.pull = .init()
        state.record.pull?.owedPages = invalid
      }
      state.progress.retries = retries
      state.progress.isConnected = condition.isConnected
      state.record.wireBytes = bytes
      state.record.pages = .init(
        counters, isCompacted: copy.relay.encodeMs != nil, mayBeHeld: copy.relay.mayBeHeld)
      (state.record.encodeMs, state.record.refetchedPages) = (
        copy.relay.encodeMs, copy.relay.refetchedPages
      )
      state.progress.wireBytes = bytes
      guard let last = state.lastWire else { return state.lastWire = (now, bytes) }
      guard now >= last.atMs + 500 else { return }
      state.progress.wireBytesPerSecond = (bytes - last.bytes) * 1000 / (now - last.atMs)
      state.lastWire = (now, bytes)
    }
  }
}

extension MigrationRecord.Pages {
  /// - Parameters:
  ///   - isCompacted: pages that were not made smaller could have been.
  ///   - mayBeHeld: the destination has a snapshot that pages may be taken from.
  fileprivate init(_ counters: SendQueue.Counters, isCompacted: Bool, mayBeHeld: Bool) {
    self.init(zero: counters.zeroPages, raw: counters.rawPages)
    guard isCompacted else { return }
    (uniform, compressed) = (counters.uniformPages, counters.compressedPages)
    (delta, duplicate) = (counters.deltaPages, counters.duplicatePages)
    if mayBeHeld { snapshot = counters.heldPages }
    disk = counters.diskPages
  }
}
