import Agent
import Base
import HostIO
import QMP

// Where the guest is in the end, and whether everything is as it must be.
extension FaultTrial {
  /// Waits until the guest's place is steady and as it must be; notes what is wrong otherwise.
  func settle(_ result: inout FaultResult, sinceMs: UInt64) async {
    let deadlineMs = MonotonicClock.nowMs + Self.settleTimeoutMs + Self.networkPatienceMs * 2
    var steady: (place: String, sinceMs: UInt64)?
    var problems = ["it never became steady"]
    while MonotonicClock.nowMs < deadlineMs {
      let nowMs = MonotonicClock.nowMs
      let place = beatsAt()
      result.guestAt = place
      if place == "both" { break }
      if steady?.place != place { steady = (place, nowMs) }
      if let steady, nowMs - steady.sinceMs >= Self.steadyMs {
        problems = await faults(place, result.outcome)
        if problems.isEmpty {
          result.settledMs = steady.sinceMs > sinceMs ? steady.sinceMs - sinceMs : 0
          break
        }
      }
      try? await Task.sleep(for: .milliseconds(50))
    }
    if result.guestAt == "both" { problems = ["two guests run"] }
    let log = session.serial.log
    if log.errors > 0 { problems.append("\(log.errors) errors in the guest's memory") }
    if let first = log.entries.firstIndex(where: { $0.side == .destination }),
      log.entries[first...].contains(where: { $0.side == .source })
    {
      problems.append("the guest ran at the source after it had run at the destination")
    }
    result.damage = problems
  }

  /// Where heartbeats came from in the last moment.
  private func beatsAt() -> String {
    let recentUs = MonotonicClock.nowUs - 700_000
    let (source, destination) = session.serial.look { log in
      let recent = log.entries.suffix(200).filter { $0.atUs > recentUs }
      return (
        recent.contains { $0.side == .source }, recent.contains { $0.side == .destination }
      )
    }
    switch (source, destination) {
    case (true, true):
      // Both within the window is the hand-over itself, unless the source beats after it.
      let last = session.serial.look { $0.last?.side }
      return last == .destination ? "destination" : "both"
    case (true, false): return "source"
    case (false, true): return "destination"
    case (false, false): return "nowhere"
    }
  }

  /// What is not as it must be with the guest at `place`.
  private func faults(_ place: String, _ outcome: String?) async -> [String] {
    let isQEMUHere = session.source.isAlive
    let isQEMUThere = !Leftovers.processes(naming: mark).isEmpty
    if plan.mustComplete(patienceMs: Self.networkPatienceMs), place != "destination" {
      return ["it should have arrived (\(outcome ?? "no outcome"))"]
    }
    if plan.victim == .sourceAgentUpgraded, outcome == nil {
      return ["the agent drained, and did not tell how the migration ended"]
    }
    switch place {
    case "source":
      var problems: [String] = []
      if isQEMUThere { problems.append("a QEMU is left behind at the destination") }
      if let problem = await settingsProblem() { problems.append(problem) }
      if let image = session.movedDisk, SmallFile.exists(image) {
        problems.append("an image is left behind at the destination")
      }
      return problems
    case "destination":
      guard isQEMUHere else { return [] }
      return ["the source's QEMU is still there"]
    default:
      let isExpected =
        switch plan.victim {
        case .sourceQEMU: true
        // Once the guest runs there, killing its QEMU is killing the guest.
        case .destinationQEMU: outcome?.hasPrefix("completed") == true
        default: false
        }
      if !isExpected { return ["the guest is gone (\(outcome ?? "no outcome"))"] }
      if plan.victim == .sourceQEMU, isQEMUThere, plan.phase < .pull {
        return ["a QEMU is left behind at the destination"]
      }
      if plan.victim == .sourceQEMU, outcome?.hasPrefix("completed") == true {
        return ["the record says completed, and the guest is gone"]
      }
      return []
    }
  }

  /// Whether QEMU's migration settings at the source are as they were.
  private func settingsProblem() async -> String? {
    do {
      let monitor = try await Monitor.connect(path: session.source.monitorPath, timeoutMs: 1000)
      let enabled = try await monitor.client.queryMigrateCapabilities().enabled
      await monitor.close()
      return enabled.isEmpty
        ? nil : "capabilities left on at the source: \(enabled.joined(separator: ", "))"
    } catch {
      return "the source's monitor does not answer: \(error)"
    }
  }
}
