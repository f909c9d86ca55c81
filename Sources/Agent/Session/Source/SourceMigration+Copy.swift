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
          if case .handedOver(let reason) = event {
            engine = nil
            try await fallBackToQEMU(reason, setup, copy)
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
      do {
        try await advance(&handOver, setup, copy)
        let now = MonotonicClock.nowMs
        let isDue = now >= nextSampleMs
        guard isDue || engine?.isCollecting == true else { continue }
        if isDue { nextSampleMs = now + Self.sampleIntervalMs }
        if let stoppedAtMs = state.read({ $0.stoppedAtMs }) {
          try checkSwitchover(since: stoppedAtMs, nowMs: now)
          noteWire(setup, copy)
          report()
        } else if var running = engine {
          try await sample(setup, copy, &running, isDue: isDue)
          engine = running
        } else {
          try await sample(setup, copy, &rule)
        }
      } catch let error as QMPError where error.isDisconnected {
        // The monitor has closed, which is in the mailbox or will be; what it means is decided then.
      }
    }
  }

  private func checkSwitchover(since stoppedAtMs: UInt64, nowMs: UInt64) throws {
    guard nowMs >= stoppedAtMs + Self.switchoverTimeoutMs else { return }
    let text = "switchover not done after \(Milliseconds.format(Self.switchoverTimeoutMs))"
    throw state.read { $0.qemuHasDied } ? Ending.sourceLost(text) : Ending.failed(text)
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
    case .runState(let isRunning): note { $0.guestRan = isRunning }
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
}
