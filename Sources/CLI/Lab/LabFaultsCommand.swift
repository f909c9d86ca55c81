import Agent
public import ArgumentParser
import Base
public import Lab

struct LabFaultsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "faults",
    abstract: "Break things in every phase of a migration and look for the guest.",
    discussion: """
      For each phase and each thing that can break: a fresh guest, a migration, the fault at a moment \
      drawn from the seed, and a look at what became of the guest. Agents and QEMUs are killed (an agent \
      is started again) or frozen, an agent drains and another copy of the program takes over, the link is \
      cut or slow, connections are reset, an agent's disk is full or takes no write at all, its wall clock \
      jumps. The guest must live exactly once and its memory must be whole, QEMU's settings must be as they were, \
      nothing may be left behind, and what a migration can survive it must survive. Exits 0 only when \
      that is so every time.

      --chaos N draws N faults from the seed instead, with their phases and lengths; the same seed gives \
      the same faults.
      """)

  @Option(help: "This phase alone.")
  var phase: MigrationPhase?
  @Option(help: "Break this alone.")
  var victim: FaultPlan.Victim?
  @Flag(help: "Kill the four processes only.")
  var kills = false
  @Option(help: ArgumentHelp("So many faults drawn from the seed.", valueName: "number"))
  var chaos: Int?
  @Option(
    help: ArgumentHelp("Longest fault of --chaos (default: 12s).", valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var longest: UInt64 = 12_000
  @Option(help: "Seed of the moments.")
  var seed: UInt64 = 1
  @Option(name: .customLong("repeat"), help: ArgumentHelp("Rounds.", valueName: "number"))
  var repeatCount = 1
  @Option(help: ArgumentHelp("QEMU for both sides.", valueName: "path"))
  var qemu: String?
  @Option(help: "What guest RAM is made of; memfd, file and hugepages are shared.")
  var backend: GuestSpecification.Backend?
  @Flag(help: "Agents talk over plain TCP.")
  var insecure = false
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if let chaos, !(1...100_000).contains(chaos) {
      throw ValidationError("--chaos takes 1 to 100000 faults")
    }
    guard (1...10_000).contains(repeatCount) else {
      throw ValidationError("--repeat takes 1 to 10000, not \(repeatCount)")
    }
    guard longest >= 100, longest <= 600_000 else {
      throw ValidationError("--longest must be 100ms to 10m")
    }
  }

  private var plans: [FaultPlan] {
    let isWanted: (FaultPlan) -> Bool = { plan in
      (phase == nil || plan.phase == phase) && (victim == nil || plan.victim == victim)
        && (!kills || FaultPlan.Victim.processes.contains(plan.victim))
    }
    guard let chaos else { return FaultPlan.all.filter(isWanted) }
    var random = SplitMix64(seed: seed)
    var plans: [FaultPlan] = []
    for _ in 0..<(chaos * 1000) where plans.count < chaos {
      let plan = FaultPlan.random(using: &random, longestMs: longest)
      if isWanted(plan) { plans.append(plan) }
    }
    return plans
  }

  func run() async throws {
    let plans = plans
    var options = LabOptions()
    options.scenario = "faults"
    (options.sourceQEMU, options.destinationQEMU) = (qemu, qemu)
    if let backend { options.guest.backend = backend }
    // No clients: the heartbeat tells where the guest lives.
    options.guest.memcachedMiB = nil
    options.repeatCount = repeatCount
    options.insecure = insecure
    let screen = LabScreen(json: output.json)
    let run = LabRun(options: options, observer: screen)
    let report = FaultReport(expected: plans.count * repeatCount, json: output.json)
    let seed = seed
    try await LabWork.run(screen) {
      try await run.runFaults(plans, seed: seed) { result in
        await screen.clear()
        await report.add(result)
      }
    }
    guard await report.finish() else { throw ExitStatus.failed.exitCode }
  }
}

extension FaultPlan.Victim: ExpressibleByArgument {}
extension MigrationPhase: ExpressibleByArgument {}
