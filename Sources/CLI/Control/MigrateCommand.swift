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
  @Option(
    help: ArgumentHelp(
      "Longest time until the guest runs at the destination, as 60s (default: no bound).",
      valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var within: UInt64?
  @Option(
    help: ArgumentHelp(
      "When that time is about to run out: stop the guest and move it, postcopy, or abort.",
      valueName: "action"))
  var atDeadline = DeadlineAction.stop
  @Option(
    help: ArgumentHelp(
      "Cap on the network, as 1Gbit or 100MiB/s (default: none).", valueName: "rate"),
    transform: UnitArguments.rate)
  var bandwidth: ByteRate?
  @Option(
    help: ArgumentHelp(
      "Longest pause of the guest to aim for, as 300ms (default: 300ms).", valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var downtime: UInt64?
  @Option(
    help: ArgumentHelp(
      "Pause up to which a strategy may raise that to end at all (default: ten times as long).",
      valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var maxDowntime: UInt64?
  @Option(
    help: ArgumentHelp(
      "Most of its processor time that the guest may be denied, 0 to 99 (default: 0).",
      valueName: "percent"))
  var maxThrottle: UInt64 = 0
  @Option(
    help: ArgumentHelp(
      "How: at-once (fewer cores), stepwise (one core after the other), or freeze (a quota in a closed loop).",
      valueName: "form"))
  var throttle = ThrottleForm.stepwise
  @Option(
    help: ArgumentHelp(
      "Where page contents come from: shared (mapped guest memory), inline (QEMU's stream), or auto: shared where both ends can.",
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
    help: "Compare every page on both sides while the guest is stopped; this adds to the downtime.")
  var audit = false
  @Flag(help: "Leave the QEMU process at the source (in state postmigrate) instead of ending it.")
  var keepSource = false
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
    request.withinMs = within
    request.atDeadline = atDeadline
    request.downtimeCeilingMs = maxDowntime
    request.maxThrottlePercent = maxThrottle
    request.throttleForm = throttle
    request.bandwidthBytesPerSecond = bandwidth?.bytesPerSecond
    if let downtime { request.downtimeLimitMs = downtime }
    request.pageSource = pageSource
    request.compaction = compaction
    request.laneCount = lanes
    if let networkPatience { request.networkPatienceMs = networkPatience }
    if let stoppedPatience { request.stoppedPatienceMs = stoppedPatience }
    request.audit = audit
    request.keepSource = keepSource
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

  private static let forecastRuns = 40

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
