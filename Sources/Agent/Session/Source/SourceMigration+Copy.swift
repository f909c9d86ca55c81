import Base
import HostIO
import Logging
import QEMUStream
import QMP
import Strategy

extension SourceMigration {
  /// Moves pages until the destination says that everything is loaded.
  func copyUntilLoaded(_ setup: Setup, _ copy: Copy) async throws {
    try await enter(.bulk)
    var rule = PrecopyMachine(downtimeLimitMs: request.downtimeLimitMs)
    var engine: EngineRun?
    var nextSampleMs: UInt64 = 0
    var handOver: DiskHandOver?
    while true {
      var intervalMs =
        engine?.isCollecting == true ? EngineRun.collectingIntervalMs : Self.sampleIntervalMs
      if handOver != nil { intervalMs = Self.handOverIntervalMs }
      if let event = await mailbox.take(timeoutMs: intervalMs) {
        switch event {
        case .peer(.message(.loaded)):
          noteWire(setup, copy)
          // It had all of the guest by the time that QEMU here died.
          note { $0.sourceIsGone = $0.qemuHasDied }
          return
        case .peer(.message(.failed(let reason))):
          throw Ending.failed("at the destination: \(reason)")
        case .peer(.message(.abort(let reason))):
          throw Ending.failed("given up by the destination: \(reason)")
        case .paused: beginHandOver(&handOver, setup)
        case .peer(.message(.disksClosed)):
          try await endHandOver(handOver, setup, copy)
          handOver = nil
        case .relay(.stream(let event)):
          try await handle(event, setup)
          if case .layout = event { engine = await makeEngine(setup, copy) }
          if case .handedOver = event {
            engine = nil
            try await fallBackToQEMU(setup, copy)
          }
        case .peer(.connection(let isUp)):
          connectionChanged(isUp, setup, copy)
          try checkDiskConnection(isUp, copy)
        case .qemuGone, .relay(.failed(.qemu)):
          try await confirmSourceIsGone(setup, copy, event)
        case .relay(.failed(.memory(let reason))): try await memoryFailed(setup, reason)
        default: try check(event)
        }
      }
      try await advance(&handOver, setup, copy)
      let now = MonotonicClock.nowMs
      let isDue = now >= nextSampleMs
      guard isDue || engine?.isCollecting == true else { continue }
      if isDue { nextSampleMs = now + Self.sampleIntervalMs }
      if let stoppedAtMs = state.read({ $0.stoppedAtMs }) {
        guard now < stoppedAtMs + Self.switchoverTimeoutMs else {
          let text = "switchover not done after \(Milliseconds.format(Self.switchoverTimeoutMs))"
          throw state.read { $0.qemuHasDied } ? Ending.sourceLost(text) : Ending.failed(text)
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

  /// Guest memory can't be read. Memory that is read out of QEMU's process ends with it, and the guest as well.
  private func memoryFailed(_ setup: Setup, _ reason: String) async throws {
    let deadline = MonotonicClock.nowMs + Self.processEndTimeoutMs
    while let identity = setup.vm.process?.identity, MonotonicClock.nowMs < deadline {
      guard identity.isAlive else {
        throw Ending.sourceLost("the source's QEMU ended during the migration")
      }
      try? await Task.sleep(nanoseconds: 5_000_000)
    }
    throw Ending.failed(reason)
  }

  /// QEMU's migration socket or monitor ended: either its process died, or it gave the migration up
  /// and runs the guest. When the whole stream was out, SHUT is withheld and the process is dead,
  /// the destination may go on, if it has or gets all of the guest: nothing else ever can. Everything else throws.
  private func confirmSourceIsGone(_ setup: Setup, _ copy: Copy, _ event: Event) async throws {
    guard !state.read({ $0.qemuHasDied }) else { return }
    let pulls = copy.relay.ledger.state.read { $0.pulls }
    let death = SourceDeath(
      streamHasEnded: state.read { $0.streamHasEnded }, pulls: pulls,
      memoryOutlivesQEMU: pulls
        ? state.read { $0.stoppedMemory?.outlivesQEMU == true } : copy.relay.memoryOutlivesQEMU)
    let identity = setup.vm.process?.identity
    let deadline = MonotonicClock.nowMs + Self.processEndTimeoutMs
    while MonotonicClock.nowMs < deadline {
      if let identity, !identity.isAlive {
        switch death {
        case .lost: throw Ending.sourceLost("the source's QEMU ended during the migration")
        case .survivable: logger.warning("the source's QEMU died; the destination goes on")
        case .undecided:
          logger.warning("the source's QEMU died; whether all of the guest was read shows now")
        }
        return note { $0.qemuHasDied = true }
      }
      try? await Task.sleep(nanoseconds: 5_000_000)
    }
    try check(event)
    throw Ending.failed("QEMU closed its migration socket before the commit")
  }
}
