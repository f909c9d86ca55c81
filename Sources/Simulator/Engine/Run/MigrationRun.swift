import Base
import Strategy

/// A migration in virtual time: the machine of the real agent against a model of memory.
///
/// The caller moves it on with `step`, and says what the link gives: one run has a link of its own
/// (`Simulation`), those of a fleet share links.
struct MigrationRun<Memory: SimulatedMemory>: Sendable {
  enum Phase: Sendable, Equatable {
    case running
    /// Stopped: this much is left to send, then this much time passes.
    case pausing(bytes: Double, thenMs: Double, pulls: Bool)
    case pulling(PullModel)
    case done
  }

  let setup: SimulationSetup
  let facts: EngineFacts
  var memory: Memory
  var noise: Noise
  private var machine: DeadlineGuard
  private var progress: ProgressEstimator
  private(set) var phase = Phase.running
  private(set) var nowMs: Double
  /// When the first page could go.
  private let startedMs: Double
  private(set) var outcome: SimulationOutcome

  private var holdFrom: UInt8 = 9
  private var scanPermille: UInt64 = 1000
  private var limit = CPULimit.none
  private var collecting: (endMs: Double, report: EpochReport)?
  private var lookedMs: Double
  private var lastEpoch: EpochReport?
  private var meter = RateMeter()
  private var stopReason = StopReason.fits
  private let writeFactor: Double
  private let overheadFactor: Double

  init(_ setup: SimulationSetup, memory: Memory, seed: UInt64) {
    (self.setup, self.memory, facts) = (setup, memory, setup.facts)
    var noise = Noise(seed: seed)
    writeFactor = noise.factor(setup.guestSpread)
    overheadFactor = noise.factor(setup.overheadSpread)
    startedMs = setup.startMs > 0 ? setup.startMs * noise.factor(setup.startSpread) : 0
    (nowMs, lookedMs) = (startedMs, startedMs)
    self.noise = noise
    machine = setup.strategy.makeMachine(setup.constraints, facts)
    progress = ProgressEstimator(downtimeLimitMs: setup.constraints.downtimeLimitMs)
    outcome = SimulationOutcome(end: .endless, acting: setup.strategy)
  }

  var isDone: Bool { phase == .done }

  /// QEMU's first pass over all of RAM, which no epoch can interrupt: as long as reading it takes, or, where
  /// pages come with the stream, as long as sending it takes.
  private var isFirstPass: Bool {
    if setup.penBytes != nil { return memory.freshPages >= 0.5 }
    return nowMs - startedMs < setup.guest.ramPages * 4096 / setup.drainRate * 1000
  }

  /// The guest's speed under the present limit, 1 being full.
  private var speed: Double {
    switch limit {
    case .none: 1
    case .cores(let count):
      min(Double(count) / Double(max(min(facts.vcpuCount, facts.hostCores), 1)), 1)
    case .quota(let permille): min(Double(permille) / 1000, 1)
    }
  }

  /// Moves on by so many milliseconds, of which the link carries `bytesPerSecond`.
  mutating func step(ms: Double, bytesPerSecond: Double) {
    switch phase {
    case .running:
      look()
      if case .running = phase { advance(ms, bytesPerSecond) }
    case .pausing(let bytes, let thenMs, let pulls):
      pause(ms, bytesPerSecond, bytes: bytes, thenMs: thenMs, pulls: pulls)
    case .pulling(var pull):
      let lost = pull.step(ms: ms, bytesPerSecond: bytesPerSecond)
      outcome.lostMs += lost
      nowMs += ms
      phase = .pulling(pull)
      if pull.isDone { finish(pull) }
    case .done: break
    }
  }

  /// Ends a run that takes longer than anything may.
  mutating func giveUp() {
    guard !isDone else { return }
    outcome.totalMs = nowMs
    phase = .done
  }
}

// MARK: - While the guest runs at the source

extension MigrationRun {
  private func pages(_ count: Double) -> UInt64 { UInt64(max(count, 0).rounded(.up)) }

  var sample: EngineSample {
    // Less than half a page of a group of millions is none.
    let fresh = memory.freshPages
    var sample = EngineSample(
      nowMs: UInt64(nowMs), beganMs: 0, freshPages: fresh < 0.5 ? 0 : pages(fresh))
    sample.dirtyOwedByHeat = memory.owedByHeat.map { $0 < 0.5 ? 0 : pages($0) }
    sample.sentPages = UInt64(memory.sentPages)
    sample.supersededPages = UInt64(memory.supersededPages)
    sample.wireBytesPerPage = meter.bytesPerPage ?? setup.wireBytesPerPage
    sample.wireRate = meter.rate
    sample.inFlightBytes = meter.inFlight(latencyMs: setup.link.latencyMs)
    sample.lastEpoch = lastEpoch
    sample.isCollecting = collecting != nil || isFirstPass
    return sample
  }

  private mutating func look() {
    let sample = sample
    let before = progress.permille
    progress.handle(
      sample.progressSample(facts), expectedDowntimeMs: StopForecast(sample, facts).downtimeMs)
    if progress.permille < before || progress.permille >= 1000 {
      note("progress went from \(before) to \(progress.permille) thousandths")
    }
    for effect in machine.handle(sample) {
      apply(effect, sample)
      if phase != .running { break }
    }
    outcome.acting = machine.acting
    outcome.reason = (machine.inner as? Auto)?.reason
  }

  private mutating func apply(_ effect: EngineEffect, _ sample: EngineSample) {
    switch effect {
    case .collect: beginCollect()
    case .holdBack(let heat): holdFrom = heat
    case .share(let permille): scanPermille = permille
    case .limitCPU(let new):
      limit = new
      let least = 1 - Double(setup.constraints.maxThrottlePercent) / 100
      if speed < least - 1e-9 || !facts.canLimitCPU {
        note("the guest is slowed down beyond the limit")
      }
    case .stop(let reason): stop(reason, sample, pulls: false)
    case .pull(let reason):
      if !facts.canPull { note("pulls, though the destination can't") }
      stop(reason, sample, pulls: true)
    case .abandon(let reason):
      outcome.end = .abandoned(reason)
      outcome.totalMs = nowMs
      phase = .done
    }
  }

  private mutating func beginCollect() {
    guard collecting == nil, !isFirstPass else { return note("two epochs at once") }
    let (dirtied, first) = memory.beginCollect(noise: &noise)
    let report = EpochReport(
      number: (lastEpoch?.number ?? 0) + 1, beganMs: UInt64(lookedMs), endedMs: UInt64(nowMs),
      dirtiedPages: pages(dirtied), firstDirtiedPages: UInt64(first))
    if report.lengthMs < 100 { note("an epoch of \(report.lengthMs) ms") }
    lookedMs = nowMs
    var ms = setup.collectLeastMs + dirtied * 4096 / setup.drainRate * 1000
    if let pen = setup.penBytes, let rate = meter.rate {
      // Beyond the pen, QEMU waits for the wire.
      ms += max(dirtied * 4096 - pen, 0) / Double(rate.bytesPerSecond) * 1000
    }
    collecting = (nowMs + ms, report)
    outcome.epochs += 1
  }

  private mutating func finishCollect() {
    guard var (_, report) = collecting else { return }
    report.newlyOwedPages = pages(memory.finishCollect())
    lastEpoch = report
    collecting = nil
  }

  private mutating func advance(_ ms: Double, _ bytesPerSecond: Double) {
    memory.run(ms: ms, atMs: nowMs, speed: speed * writeFactor, noise: &noise)
    let budget = bytesPerSecond * ms / 1000
    let before = memory.sentPages
    let used = memory.send(
      bytes: budget, scanPermille: scanPermille, holdFrom: holdFrom, noise: &noise)
    meter.note(ms: ms, budget: budget, used: used, pages: memory.sentPages - before)
    outcome.wireBytes += used
    outcome.lostMs += (1 - speed) * ms
    nowMs += ms
    if let collecting, nowMs >= collecting.endMs { finishCollect() }
  }
}

// MARK: - The pause and after

extension MigrationRun {
  private mutating func stop(_ reason: StopReason, _ sample: EngineSample, pulls: Bool) {
    stopReason = reason
    outcome.forecastDowntimeMs = StopForecast(sample, facts).downtimeMs.map { Double($0) }
    // The last look at the dirty bitmap, with the guest stopped.
    finishCollect()
    _ = memory.beginCollect(noise: &noise)
    _ = memory.finishCollect()
    let inFlight = Double(sample.inFlightBytes)
    let fixedMs =
      Double(setup.pauseOverheadMs) * overheadFactor + 2 * setup.link.latencyMs
    if pulls {
      let known = Double(sample.wireRate?.bytesPerSecond ?? 1)
      outcome.forecastDowntimeMs = inFlight / known * 1000 + Double(facts.pauseOverheadMs)
    }
    phase = .pausing(
      bytes: (pulls ? 0 : memory.owedBytes) + inFlight, thenMs: fixedMs, pulls: pulls)
    outcome.downtimeMs = 0
    if !pulls { outcome.wireBytes += memory.owedBytes }
  }

  private mutating func pause(
    _ ms: Double, _ bytesPerSecond: Double, bytes: Double, thenMs: Double, pulls: Bool
  ) {
    let sendMs = bytesPerSecond > 0 ? bytes / bytesPerSecond * 1000 : (bytes > 0 ? .infinity : 0)
    let spent: Double
    if sendMs >= ms {
      spent = ms
      phase = .pausing(bytes: bytes - bytesPerSecond * ms / 1000, thenMs: thenMs, pulls: pulls)
    } else if sendMs + thenMs > ms {
      spent = ms
      phase = .pausing(bytes: 0, thenMs: sendMs + thenMs - ms, pulls: pulls)
    } else {
      spent = sendMs + thenMs
    }
    nowMs += spent
    outcome.downtimeMs = (outcome.downtimeMs ?? 0) + spent
    outcome.lostMs += spent
    guard spent < ms || sendMs + thenMs == ms else { return }
    outcome.movedMs = nowMs
    if pulls {
      phase = .pulling(PullModel(memory.invalidByGroup, setup))
    } else {
      _ = memory.send(
        bytes: .greatestFiniteMagnitude, scanPermille: 500, holdFrom: 9, noise: &noise)
      complete()
    }
  }

  private mutating func finish(_ pull: PullModel) {
    outcome.wireBytes += pull.sentBytes
    outcome.networkFaults = pull.faults
    nowMs -= pull.unusedMs
    _ = memory.send(bytes: .greatestFiniteMagnitude, scanPermille: 500, holdFrom: 9, noise: &noise)
    complete()
  }

  private mutating func complete() {
    outcome.end = .completed(stopReason)
    outcome.totalMs = nowMs
    progress.finished()
    if progress.permille != 1000 { note("done, and progress is \(progress.permille) thousandths") }
    if let found = memory.violation(isFinished: true) { note(found) }
    phase = .done
  }

  private mutating func note(_ violation: String) {
    if outcome.violation == nil { outcome.violation = "\(violation) at \(UInt64(nowMs)) ms" }
  }
}
