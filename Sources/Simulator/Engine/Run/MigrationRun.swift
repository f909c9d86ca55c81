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

  /// How far the destination may be behind with pages of zeros before it is sent no more, in milliseconds.
  private static var zeroWindowMs: Double { 25 }

  let setup: SimulationSetup
  let facts: EngineFacts
  var memory: Memory
  var noise: Noise
  private var machine: DeadlineGuard
  var progress: ProgressEstimator
  var phase = Phase.running
  var nowMs: Double
  /// When the first page could go.
  private let startedMs: Double
  var outcome: SimulationOutcome

  private var holdFrom: UInt8 = 9
  private var scanPermille: UInt64 = 1000
  private var limit = CPULimit.none
  private var collecting: (endMs: Double, report: EpochReport)?
  private var lookedMs: Double
  private var lastEpoch: EpochReport?
  private var meter = RateMeter()
  /// Pages of zeros that the destination has and its QEMU has not taken.
  private var zeroBacklog = 0.0
  var stopReason = StopReason.fits
  private let writeFactor: Double
  /// What a page costs that is sent again, in bytes of the link's time, on average over those that the guest writes; nil: as
  /// much as the first time.
  private let resentPrice: Double?
  private var phases: WritePhases.Walk?
  let overheadFactor: Double

  init(_ setup: SimulationSetup, memory: Memory, seed: UInt64) {
    (self.setup, self.memory, facts) = (setup, memory, setup.facts)
    var noise = Noise(seed: seed)
    writeFactor = noise.factor(setup.guestSpread)
    resentPrice = setup.guest.resentLinkBytes(at: setup.link.goodput)
    overheadFactor = noise.factor(setup.overheadSpread)
    startedMs = setup.startMs > 0 ? setup.startMs * noise.factor(setup.startSpread) : 0
    (nowMs, lookedMs) = (startedMs, startedMs)
    if let writePhases = setup.writePhases {
      phases = WritePhases.Walk(writePhases, fromMs: startedMs, noise: &noise)
    }
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
    sample.wireBytesPerPage = resentBytesPerPage ?? meter.bytesPerPage ?? setup.wireBytesPerPage
    sample.wireRate = meter.rate
    sample.inFlightBytes = meter.inFlight(latencyMs: setup.link.latencyMs)
    sample.applyingMs = UInt64(applyingMs)
    sample.lastEpoch = lastEpoch
    sample.isCollecting = collecting != nil || isFirstPass
    return sample
  }

  /// What owed pages cost after the scan, in bytes of the link's time, where the destination has versions of them that make
  /// that less: as agents tell those apart that the guest has written (`PageCosts`). Nil: they cost what others do.
  private var resentBytesPerPage: UInt64? {
    guard let resentPrice, memory.freshPages < 0.5 else { return nil }
    let owed = memory.owedByHeat.reduce(0, +)
    return UInt64(max(owed < 1 ? resentPrice : memory.owedBytes / owed, 1))
  }

  /// Milliseconds until the destination has taken the pages of zeros that it was sent.
  var applyingMs: Double {
    setup.zeroPagesPerSecond.map { min(zeroBacklog / max($0, 1) * 1000, 1e15) } ?? 0
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

  mutating func finishCollect() {
    guard var (_, report) = collecting else { return }
    report.newlyOwedPages = pages(memory.finishCollect())
    lastEpoch = report
    collecting = nil
  }

  /// Bytes that go in a step: what the link carries, or less where the destination would fall behind with pages of zeros,
  /// which have a window of their own.
  private func withoutTooManyZeros(_ budget: Double, _ ms: Double) -> Double {
    guard let pace = setup.zeroPagesPerSecond else { return budget }
    var (trial, noise) = (memory, self.noise)
    let used = trial.send(
      bytes: budget, scanPermille: scanPermille, holdFrom: holdFrom, noise: &noise)
    let zeros = trial.sentZeroPages - memory.sentZeroPages
    let room = max(pace * (ms + Self.zeroWindowMs) / 1000 - zeroBacklog, 0)
    return zeros > room ? used * room / zeros : budget
  }

  private mutating func advance(_ ms: Double, _ bytesPerSecond: Double) {
    phases?.move(toMs: nowMs, noise: &noise)
    let factor = writeFactor * (phases?.factor ?? 1)
    memory.run(ms: ms, atMs: nowMs, speed: speed * factor, noise: &noise)
    let full = bytesPerSecond * ms / 1000
    let budget = withoutTooManyZeros(full, ms)
    let (before, zeros, bytes) = (memory.sentPages, memory.sentZeroPages, memory.sentBytes)
    let used = memory.send(
      bytes: budget, scanPermille: scanPermille, holdFrom: holdFrom, noise: &noise)
    // Where the destination holds it up the link was idle for a part.
    meter.note(ms: ms, budget: full, used: used, pages: memory.sentPages - before)
    outcome.wireBytes += memory.sentBytes - bytes
    if let pace = setup.zeroPagesPerSecond {
      zeroBacklog = max(zeroBacklog + memory.sentZeroPages - zeros - pace * ms / 1000, 0)
    }
    outcome.lostMs += (1 - speed) * ms
    nowMs += ms
    if let collecting, nowMs >= collecting.endMs { finishCollect() }
  }
}
