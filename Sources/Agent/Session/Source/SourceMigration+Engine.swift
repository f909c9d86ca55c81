import Base
import HostIO
import Logging
import QEMUStream
import QMP
import Strategy

/// Carries out what a strategy wants.
extension SourceMigration {
  /// The strategy that was asked for, once the stream has named the guest's RAM; nil where QEMU's own
  /// rule decides.
  func makeEngine(_ setup: Setup, _ copy: Copy) async -> EngineRun? {
    guard let name = copy.strategy else { return nil }
    let pages = copy.relay.ledger.state.read { UInt64($0.ledger?.numbering.pageCount ?? 0) }
    let cpus = copy.vcpus?.facts
    let canPull = await openStoppedMemory(setup, copy)
    var facts = EngineFacts(
      ramPages: pages, vcpuCount: cpus?.vcpuCount ?? 1, hostCores: cpus?.hostCores ?? 1,
      canLimitCPU: cpus?.canLimitCPU ?? false, canPull: canPull)
    facts.dirtyBound = setup.dirtyBound
    let now = MonotonicClock.nowMs
    return EngineRun(
      name.makeMachine(request.constraints, facts), facts, holdsByAck: copy.holdsByAck,
      beganMs: startedAtMs, nowMs: now,
      contents: setup.contents)
  }

  /// Looks at QEMU, the ledger and the lanes, and carries out what the strategy makes of it.
  func sample(
    _ setup: Setup, _ copy: Copy, _ engine: inout EngineRun, isDue: Bool
  ) async throws {
    guard let ram = try await askQEMU(setup) else {
      // Should its word that the guest stands still have been lost.
      if !copy.holdsByAck { copy.relay.ledger.openIfClosed() }
      return
    }
    let (ledger, now) = (copy.relay.ledger, MonotonicClock.nowMs)
    let hasEnded = engine.noteSync(ram.dirtySyncCount, nowMs: now, ledger)
    guard isDue || hasEnded else { return }
    let sample = engine.sample(nowMs: now, ledger, copy.relay.queue)
    let forecast = StopForecast(sample, engine.facts)
    let look = sample.progressSample(engine.facts)
    let acting = engine.name
    note { state in
      state.estimator.handle(look, expectedDowntimeMs: forecast.downtimeMs)
      state.progress.remainingBytes = sample.owedPages * UInt64(Page.size)
      state.progress.workingSetBytes = sample.lastEpoch.map {
        $0.dirtiedPages * UInt64(Page.size)
      }
      state.progress.dirtyBytesPerSecond = look.dirtyRate?.bytesPerSecond
      state.progress.iteration = sample.lastEpoch?.number ?? 0
      state.progress.expectedDowntimeMs = forecast.downtimeMs
      state.progress.strategy = acting.rawValue
    }
    noteWire(setup, copy)
    if sample.freshPages == 0, progress.phase == .bulk { try await enter(.iterate) }
    guard !engine.isEnding, !engine.isMeasuring(request.constraints, sample) else {
      return report()
    }
    if let reason = engine.refusal(request.constraints, sample) {
      throw Ending.refused([
        Refusal(.request, reason, remedy: "give it more time, or --at-deadline postcopy")
      ])
    }
    if let boundMs = engine.announcedBound(request.constraints, sample) { announce(boundMs) }
    if let limit = engine.limitOnce(sample) {
      try await setup.monitor.client.migrateSetParameters(["max-bandwidth": JSONValue(limit)])
    }
    // What is kept with the outcome; the strategies reckon with the worse case, a guest that stops at once.
    let atStop = StopForecast(sample, engine.facts, delayMs: engine.stopDelayMs)
    let forecasts = (full: atStop, pulling: StopForecast(pulling: sample, engine.facts))
    for effect in engine.handle(sample) {
      try await carryOut(effect, forecasts, setup, copy, &engine)
    }
    report()
  }

  /// Before 8.1 QEMU may stop the guest at any look at its dirty bitmap, if next to nothing is dirty. It says so itself, and
  /// nothing else before all that it writes then is read.
  func watchForStop(_ client: QMPClient, _ ledger: SourceLedger) {
    let events = client.events()
    Task { [weak ledger] in
      for await event in events {
        switch event.name {
        case "STOP": ledger?.noteQEMUStopped(true)
        case "RESUME": ledger?.noteQEMUStopped(false)
        default: break
        }
      }
    }
  }

  /// Says by when the guest will run at the destination, whatever it does.
  private func announce(_ boundMs: UInt64) {
    logger.notice("ends within the time announced", metadata: ["boundMs": "\(boundMs)"])
    note { ($0.progress.boundMs, $0.record.boundMs) = (boundMs, boundMs) }
  }

  private func carryOut(
    _ effect: EngineEffect, _ forecast: (full: StopForecast, pulling: StopForecast),
    _ setup: Setup, _ copy: Copy, _ engine: inout EngineRun
  ) async throws {
    switch effect {
    case .collect: engine.collect(copy.relay.ledger, nowMs: MonotonicClock.nowMs)
    case .holdBack(let heat): copy.relay.ledger.state.update { $0.holdBackHeat = heat }
    case .share(let permille):
      copy.relay.ledger.state.update { $0.scanPermille = Int(clamping: min(permille, 1000)) }
      copy.relay.queue.separateScan((1..<1000).contains(permille))
    case .limitCPU(let limit):
      do { try await copy.vcpus?.apply(limit) } catch {
        logger.warning("vCPUs cannot be limited", metadata: ["error": "\(error)"])
      }
    case .stop(let reason):
      engine.isEnding = true
      try await stopGuest(reason, forecast.full, setup, copy)
    case .pull(let reason):
      engine.isEnding = true
      let pulls = await beginPull(copy)
      try await stopGuest(reason, pulls ? forecast.pulling : forecast.full, setup, copy)
    case .abandon(let reason): throw Ending.failed(reason)
    }
  }

  /// Has QEMU stop the guest: every pause is short enough for it now, and nothing holds it back.
  private func stopGuest(
    _ reason: StopReason, _ forecast: StopForecast, _ setup: Setup, _ copy: Copy
  ) async throws {
    logger.info(
      "stopping the guest",
      metadata: [
        "reason": "\(reason.rawValue)", "stopSetPages": "\(forecast.pages)",
        "downtimeForecastMs": "\(forecast.downtimeMs.map { "\($0)" } ?? "unknown")",
      ])
    note { state in
      state.record.forecast.downtimeMs = forecast.downtimeMs
      state.record.stopReason = reason.rawValue
    }
    try await setup.monitor.client.migrateSetParameters([
      "downtime-limit": JSONValue(EngineRun.unlimitedMs), "max-bandwidth": 0,
    ])
    copy.relay.ledger.setGate(.open)
    if copy.holdsByAck { try copy.relay.answer(.switchoverAck) }
  }

  /// The stream can't be read any further: QEMU's own rule decides from here on, which knows no time to be done within.
  func fallBackToQEMU(_ reason: String, _ setup: Setup, _ copy: Copy) async throws {
    guard copy.strategy != nil, !state.read({ $0.stoppedAtMs != nil }) else { return }
    if request.withinMs != nil {
      throw Ending.refused([
        Refusal(
          .request, "--within cannot be kept: the stream is passed through unread (\(reason))",
          remedy: "migrate this guest without --within")
      ])
    }
    logger.warning("the strategy cannot go on; QEMU's own rule decides")
    let machine = PrecopyMachine(downtimeLimitMs: request.downtimeLimitMs)
    var values: [String: JSONValue] = ["downtime-limit": JSONValue(machine.effectiveLimitMs)]
    if copy.pinsBandwidth { values["avail-switchover-bandwidth"] = 0 }
    try await setup.monitor.client.migrateSetParameters(values)
    note { $0.progress.strategy = StrategyName.precopy.rawValue }
  }
}
