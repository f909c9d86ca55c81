import Agent
public import ArgumentParser
import Base
public import Lab

struct LabFaultsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "faults",
    abstract: "Kill agents and QEMUs in every phase of a migration and look for the guest.",
    discussion: """
      For each phase and each of the four processes: a fresh guest, a migration, SIGKILL at a moment \
      drawn from the seed, and a look at what became of the guest. A killed agent is started again. The \
      guest must live exactly once, QEMU's settings must be as they were, and nothing may be left \
      behind. Exits 0 only when that is so every time.
      """)

  @Option(help: "This phase alone.")
  var phase: MigrationPhase?
  @Option(help: "Kill this process alone.")
  var victim: FaultPlan.Victim?
  @Option(help: "Seed of the moments.")
  var seed: UInt64 = 1
  @Option(name: .customLong("repeat"), help: ArgumentHelp("Rounds.", valueName: "number"))
  var repeatCount = 1
  @Option(help: ArgumentHelp("QEMU for both sides.", valueName: "path"))
  var qemu: String?
  @Option(help: "What guest RAM is made of; memfd, file and hugepages are shared.")
  var backend: GuestSpecification.Backend?
  @OptionGroup var output: OutputOptions

  private struct Answer: Encodable {
    let phase, victim, guestAt: String
    let outcome: String?
    let killedAfterMs: UInt64
    let settledMs: UInt64?
    let damage: [String]

    init(_ result: FaultResult) {
      (phase, victim) = (result.plan.phase.rawValue, result.plan.victim.rawValue)
      (guestAt, outcome) = (result.guestAt, result.outcome)
      (killedAfterMs, settledMs) = (result.killedAfterMs, result.settledMs)
      damage = result.damage
    }
  }

  func run() async throws {
    let plans = FaultPlan.all.filter {
      (phase == nil || $0.phase == phase) && (victim == nil || $0.victim == victim)
    }
    var options = LabOptions()
    options.scenario = "faults"
    (options.sourceQEMU, options.destinationQEMU) = (qemu, qemu)
    if let backend { options.guest.backend = backend }
    // No clients: the heartbeat tells where the guest lives.
    options.guest.memcachedMiB = nil
    options.repeatCount = repeatCount
    let run = LabRun(options: options, observer: LabScreen(json: true))
    var table = Table(["PHASE", "KILLED", "AFTER", "GUEST AT", "SETTLED", "MIGRATE SAID", "OK"])
    var isGood = true
    do {
      try await run.runFaults(plans, seed: seed) { result in
        isGood = isGood && result.isGood
        if output.json { try? Output.json(Answer(result)) }
        for problem in result.damage {
          let place = "\(result.plan.phase.rawValue)/\(result.plan.victim.rawValue)"
          Output.write("\(place): \(TerminalText.plain(problem))\n", to: 2)
        }
        table.add([
          result.plan.phase.rawValue, result.plan.victim.rawValue, "\(result.killedAfterMs) ms",
          result.guestAt, result.settledMs.map(Milliseconds.format) ?? "-",
          String((result.outcome ?? "(its agent was killed)").prefix(48)),
          result.isGood ? "yes" : "NO",
        ])
      }
    } catch let error as LabError {
      Output.error(error.description)
      throw ExitStatus.failed.exitCode
    }
    if !output.json { table.lines.forEach(Output.line) }
    guard isGood else { throw ExitStatus.failed.exitCode }
  }
}

extension FaultPlan.Victim: ExpressibleByArgument {}
extension MigrationPhase: ExpressibleByArgument {}
