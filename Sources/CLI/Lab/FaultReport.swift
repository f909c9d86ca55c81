import Agent
import Base
import Lab
import Strategy

/// What became of each broken migration: a line as it is known, a table in the end.
actor FaultReport {
  private let expected: Int
  private let json: Bool
  private let started = ContinuousClock.now
  private var table = Table([
    "PHASE", "BROKEN", "STRATEGY", "AFTER", "LASTS", "GUEST AT", "SETTLED", "RETRIES",
    "MIGRATE SAID", "OK",
  ])
  private var (count, good) = (0, 0)
  private var peakBytes: UInt64 = 0

  init(expected: Int, json: Bool) { (self.expected, self.json) = (expected, json) }

  func add(_ result: FaultResult) {
    count += 1
    if result.isGood { good += 1 }
    peakBytes = max(peakBytes, result.agentPeakBytes ?? 0)
    if json { try? Output.json(Answer(result)) }
    let left = (ContinuousClock.now - started) / count * (expected - count)
    let leftMs = UInt64(max(left / .milliseconds(1), 0))
    let plan = result.plan
    let place = "fault \(count) of \(expected), \(plan.phase.rawValue)/\(plan.victim.rawValue)"
    let verdict = result.isGood ? "as it must be" : "NOT as it must be"
    Output.write(
      "\(place): guest at \(result.guestAt), \(verdict); \(Milliseconds.format(leftMs)) left\n",
      to: 2)
    for problem in result.damage {
      Output.write("\(place): \(TerminalText.plain(problem))\n", to: 2)
    }
    table.add([
      plan.phase.rawValue, plan.victim.rawValue, plan.strategy.rawValue,
      "\(result.killedAfterMs) ms", plan.lasting,
      result.guestAt, result.settledMs.map(Milliseconds.format) ?? "-",
      result.retries.map(String.init) ?? "-",
      String((result.outcome ?? "(its agent was gone)").prefix(48)),
      result.isGood ? "yes" : "NO",
    ])
  }

  /// Prints the table; whether everything was looked at and is as it must be.
  func finish() -> Bool {
    if !json {
      table.lines.forEach(Output.line)
      Output.line(
        "\(good) of \(count) as they must be; most memory of an agent: \(ByteCount(peakBytes))")
    }
    return good == expected
  }
}

private struct Answer: Encodable {
  let phase, victim, strategy, guestAt: String
  let outcome: String?
  let killedAfterMs, lastsMs: UInt64
  let settledMs, retries, agentPeakBytes: UInt64?
  let damage: [String]

  init(_ result: FaultResult) {
    (phase, victim) = (result.plan.phase.rawValue, result.plan.victim.rawValue)
    strategy = result.plan.strategy.rawValue
    (guestAt, outcome) = (result.guestAt, result.outcome)
    (killedAfterMs, settledMs) = (result.killedAfterMs, result.settledMs)
    lastsMs = result.plan.lastsMs
    (retries, agentPeakBytes) = (result.retries, result.agentPeakBytes)
    damage = result.damage
  }
}

extension FaultPlan {
  /// How long it lasts, where that means something.
  fileprivate var lasting: String {
    switch victim {
    case .sourceAgent, .destinationAgent, .sourceQEMU, .destinationQEMU, .connections, .sourceDisk,
      .destinationDisk:
      "-"
    default: Milliseconds.format(lastsMs)
    }
  }
}
