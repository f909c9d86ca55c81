import Base
import Strategy

// The pause of the guest, and what comes after it.
extension MigrationRun {
  mutating func stop(_ reason: StopReason, _ sample: EngineSample, pulls: Bool) {
    stopReason = reason
    outcome.forecastDowntimeMs = StopForecast(sample, facts).downtimeMs.map { Double($0) }
    // The last look at the dirty bitmap, with the guest stopped.
    finishCollect()
    _ = memory.beginCollect(noise: &noise)
    _ = memory.finishCollect()
    let inFlight = Double(sample.inFlightBytes)
    if pulls {
      outcome.forecastDowntimeMs = StopForecast(pulling: sample, facts).downtimeMs.map {
        Double($0)
      }
    }
    let bytes = (pulls ? 0 : memory.owedBytes) + inFlight
    // The destination takes what it has while the rest is on its way.
    let sendingMs = sample.wireRate.map { bytes / Double($0.bytesPerSecond) * 1000 } ?? 0
    let fixedMs =
      Double(setup.pauseOverheadMs) * overheadFactor + 2 * setup.link.latencyMs
      + max(applyingMs - sendingMs, 0)
    phase = .pausing(bytes: bytes, thenMs: fixedMs, pulls: pulls)
    outcome.downtimeMs = 0
  }

  mutating func pause(
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
      let before = memory.sentBytes
      _ = memory.send(
        bytes: .greatestFiniteMagnitude, scanPermille: 500, holdFrom: 9, noise: &noise)
      outcome.wireBytes += memory.sentBytes - before
      complete()
    }
  }

  mutating func finish(_ pull: PullModel) {
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

  mutating func note(_ violation: String) {
    if outcome.violation == nil { outcome.violation = "\(violation) at \(UInt64(nowMs)) ms" }
  }
}
