import Agent
import ArgumentParser
import Base
import Strategy

struct MigrateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "migrate", abstract: "Move a running guest to another host.",
    discussion: """
      VM is a name from `godwit vms`, or qmp:PATH with the path of a QMP socket. DESTINATION is the \
      agent there, HOST or HOST:PORT. Everything that can be checked is checked on both sides first.

      Disks stay where they are, on storage that both hosts share, unless --disks names them. Then they are \
      copied first, into new raw images at the destination, and change hands together with the memory (one that is behind \
      a server, godwit block attach, by that server and its methods, of which incremental alone writes to what is there); the \
      images at the source stay, and nobody removes them.

      The agent carries the migration out: it goes on when this command ends. The first Ctrl-C \
      cancels the migration and waits for its end; the second leaves at once (exit status 130), \
      whatever the migration does.
      """)

  @Argument(help: "Name of the VM, or qmp:PATH.")
  var vm: String
  @Argument(help: "Agent of the destination, HOST or HOST:PORT.")
  var destination: String
  @Option(
    help: ArgumentHelp(
      "How to move memory: precopy (QEMU's own rounds and stop rule), hotpages, adaptive, timebound, dsm, auto; ramp and stall are rivals to compare with.",
      valueName: "name"))
  var strategy = StrategyName.precopy
  @OptionGroup var wishes: MigrationWishes
  @OptionGroup(title: "Disks") var diskOptions: DiskOptions
  @Option(
    help: ArgumentHelp(
      "Where page contents come from: shared (mapped guest memory), inline (QEMU's stream), or auto: read out of the guest's memory where the agent may, and written in place where both ends share it.",
      valueName: "source"))
  var pageSource = MigrationRequest.PageSourceChoice.auto
  @Option(
    help: ArgumentHelp(
      "How pages are made smaller: auto (as much as link and processors make worth while), off, or always with lz4 or zstd.",
      valueName: "choice"))
  var compaction = MigrationRequest.CompactionChoice.auto
  @Option(help: ArgumentHelp("Data connections, 1 to 64.", valueName: "number"))
  var lanes = 4
  @Option(
    help: ArgumentHelp(
      "How long to look for the destination after the connection broke, before the migration is rolled back (default: 60s).",
      valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var networkPatience: UInt64?
  @Option(
    help: ArgumentHelp(
      "The same while the guest is stopped, when it is shorter: then the guest goes on here (default: 3s).",
      valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var stoppedPatience: UInt64?
  @Flag(
    help: """
      Compare the guest's memory on both sides, page for page, while the guest is stopped; this adds to the downtime. RAM \
      that QEMU doesn't show is counted as not compared.
      """)
  var audit = false
  @Flag(help: "Leave the QEMU process at the source (in state postmigrate) instead of ending it.")
  var keepSource = false
  @Flag(
    help:
      "Keep a copy of the guest's memory on this host once it is gone (godwit vault): its return then sends little more than what changed."
  )
  var keep = false
  @Option(
    help: ArgumentHelp(
      "Move together with other guests: pages that another guest with the same name here brought to the same destination cross the network as references. Not for guests that must not learn of each other, see Docs/compaction.md.",
      valueName: "name"))
  var gang: String?
  @Flag(
    help:
      "Forecast the migration first, as `godwit plan` does (some 5 s), and keep the forecast with its outcome."
  )
  var forecast = false
  @OptionGroup var control: ControlOptions
  @OptionGroup var output: OutputOptions

  var request: MigrationRequest {
    var request = MigrationRequest(vm: vm, destination: destination)
    request.strategy = strategy.rawValue
    wishes.apply(to: &request)
    request.pageSource = pageSource
    request.compaction = compaction
    request.laneCount = lanes
    if let networkPatience { request.networkPatienceMs = networkPatience }
    if let stoppedPatience { request.stoppedPatienceMs = stoppedPatience }
    request.audit = audit
    request.keepSource = keepSource
    request.keepMemory = keep
    request.disks = diskOptions.wishes
    request.gang = gang
    return request
  }

  func validate() throws {
    if let problem = request.problem { throw ValidationError(problem) }
  }

  /// The forecast of this migration; nil when it would be refused, which it then says itself.
  private func planned() async throws -> MigrationRecord.Forecast? {
    let report = try await control.client.plan(request)
    guard report.refusals.isEmpty else { return nil }
    let planned = try PlannedForecast(
      report, request, strategies: [strategy], runs: Self.forecastRuns, seed: 1)
    if !output.json { planned.lines.forEach(Output.line) }
    return MigrationRecord.Forecast(planned, strategy)
  }

  static let forecastRuns = 40

  func run() async throws {
    var request = request
    if forecast { request.forecast = try await planned() }
    let record = try await MigrationFollower(
      client: control.client, vm: vm, quiet: output.json
    ).follow(request)
    if output.json {
      try Output.json(record)
    } else {
      RecordReport.lines(record).forEach(Output.line)
    }
    guard record.outcome == .completed else { throw record.exitStatus.exitCode }
  }
}
