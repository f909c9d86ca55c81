import Agent
import ArgumentParser
import Base
import Simulator
import Strategy

struct SimulateFleetCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fleet", abstract: "Simulate many migrations that share their links.",
    discussion: """
      Empties hosts into as many others, over the hosts' network cards and the uplinks of their racks, \
      which the migrations in progress share max-min fairly. Guests are drawn from the seed: small ones and \
      quiet ones are the more frequent. Exit status 1 when a migration breaks a rule.
      """)

  @Option(help: ArgumentHelp("Migrations, 1 to 1000000.", valueName: "number"))
  var moves = 200
  @Option(help: ArgumentHelp("Hosts that are emptied, 1 to 100000.", valueName: "number"))
  var hosts = 20
  @Option(help: ArgumentHelp("Hosts of a rack.", valueName: "number"))
  var hostsPerRack = 20
  @Option(
    help: ArgumentHelp("Network card of a host (default: 25Gbit).", valueName: "rate"),
    transform: UnitArguments.rate)
  var hostRate: ByteRate?
  @Option(
    help: ArgumentHelp("Uplink of a rack (default: 100Gbit).", valueName: "rate"),
    transform: UnitArguments.rate)
  var rackRate: ByteRate?
  @Option(
    help: ArgumentHelp("Migrations of a host at the same time, each way.", valueName: "number"))
  var perHost = 4
  @Option(
    help: ArgumentHelp(
      "Migrations at the same time in all; without, no limit.", valueName: "number"))
  var atOnce: Int?
  @Option(
    help: ArgumentHelp("RAM of the smallest guests (default: 4GiB).", valueName: "size"),
    transform: UnitArguments.size)
  var ramLeast = ByteCount.mebibytes(4096)
  @Option(
    help: ArgumentHelp("RAM of the largest guests (default: 64GiB).", valueName: "size"),
    transform: UnitArguments.size)
  var ramMost = ByteCount.mebibytes(65_536)
  @Option(help: ArgumentHelp("Strategy of all of them.", valueName: "name"))
  var strategy = StrategyName.auto
  @OptionGroup(title: "Constraints") var wishes: ConstraintOptions
  @Flag(help: "Destinations can run a guest before its memory is there.")
  var pull = false
  @Option(help: ArgumentHelp("Seed.", valueName: "number"))
  var seed: UInt64 = 1
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (1...1_000_000).contains(moves), (1...100_000).contains(hosts) else {
      throw ValidationError("--moves takes 1 to 1000000, --hosts 1 to 100000")
    }
    guard hostsPerRack > 0, perHost > 0, atOnce ?? 1 > 0 else {
      throw ValidationError("--hosts-per-rack, --per-host and --at-once take 1 or more")
    }
    guard (1 << 20...1 << 44).contains(ramLeast.bytes), ramLeast <= ramMost,
      ramMost.bytes <= 1 << 44
    else { throw ValidationError("--ram-least and --ram-most take 1MiB to 16TiB, the least first") }
  }

  func run() async throws {
    guard let hostRate = hostRate ?? ByteRate(parsing: "25Gbit"),
      let rackRate = rackRate ?? ByteRate(parsing: "100Gbit")
    else { return }
    var setup = FleetSetup(
      moves: moves, hosts: hosts, hostsPerRack: hostsPerRack, hostRate: hostRate,
      rackRate: rackRate,
      perHostMax: perHost, totalMax: atOnce ?? .max, strategy: strategy,
      constraints: wishes.constraints, ramLeast: ramLeast, ramMost: ramMost)
    setup.canPull = pull
    let outcome = FleetRun.run(setup, seed: seed)
    if output.json {
      try Output.json(Answer(outcome, setup, seed: seed))
    } else {
      Self.lines(outcome).forEach(Output.line)
    }
    if let violation = outcome.violation {
      Output.error(violation)
      throw ExitStatus.failed.exitCode
    }
  }

  static func lines(_ outcome: FleetOutcome) -> [String] {
    let ended = outcome.outcomes.filter(\.isCompleted)
    return [
      "\(ended.count) of \(outcome.outcomes.count) guests moved in \(SimulationReport.milliseconds(outcome.totalMs)), "
        + "at most \(outcome.concurrentMax) at the same time",
      "on the wire   \(ByteCount(UInt64(max(outcome.wireBytes, 0))))",
      "each          \(SimulationReport.time(.init(ended.map(\.totalMs))))",
      "waited        \(SimulationReport.time(.init(outcome.waitedMs)))",
      "downtime      \(SimulationReport.time(.init(ended.compactMap(\.downtimeMs))))",
      "racks' links  full for \(SimulationReport.percent(outcome.rackBusyShare)) of the time",
    ]
  }

  struct Answer: Encodable {
    let simulation = "fleet"
    let strategy: String
    let seed: UInt64
    let moves: Int
    let completed: Int
    let totalMs: Double
    let wireBytes: Double
    let concurrentMax: Int
    let rackBusyShare: Double
    @OrNull var eachMs: SimulationReport.BandAnswer?
    @OrNull var waitedMs: SimulationReport.BandAnswer?
    @OrNull var downtimeMs: SimulationReport.BandAnswer?
    @OrNull var violation: String?

    init(_ outcome: FleetOutcome, _ setup: FleetSetup, seed: UInt64) {
      let ended = outcome.outcomes.filter(\.isCompleted)
      (strategy, self.seed, moves) = (setup.strategy.rawValue, seed, outcome.outcomes.count)
      (completed, totalMs, wireBytes) = (ended.count, outcome.totalMs, outcome.wireBytes)
      (concurrentMax, rackBusyShare) = (outcome.concurrentMax, outcome.rackBusyShare)
      eachMs = .init(SimulationBatch.Band(ended.map(\.totalMs)))
      waitedMs = .init(SimulationBatch.Band(outcome.waitedMs))
      downtimeMs = .init(SimulationBatch.Band(ended.compactMap(\.downtimeMs)))
      violation = outcome.violation
    }
  }
}
