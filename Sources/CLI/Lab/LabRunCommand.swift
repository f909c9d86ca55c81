import Agent
public import ArgumentParser
import Base
public import Lab
import Strategy

struct LabRunCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Run an experiment or a suite: guests moved by QEMU alone, and by Godwit.",
    discussion: """
      An experiment has a name (godwit lab list) or is a file (FILE.toml): guests, QEMUs and methods, each \
      combination once a round, in an order drawn from the seed. --results FILE keeps one JSON object per \
      migration; run again with it, the experiment goes on where it was. At the end medians and ratios to \
      QEMU's best way are printed; --only, --guest, --repeat and --strategy choose a part. Exits 0 when \
      every guest is intact and every migration was tried; one that was not done in time is a result. A suite is \
      several experiments, one after the other; --results names a folder then.

      Needs root for network namespaces; without root everything runs over the loopback interface, \
      which the output says. Beside QEMU alone Godwit runs twice: without the audit, whose time is \
      downtime, to be compared; and with it, to be proved right. Exits 0 only when every guest is intact after its move.
      """)

  @Argument(help: "Name of the experiment or of the suite, or a file FILE.toml.")
  var scenario = "quickstart"
  @Option(help: ArgumentHelp("QEMU for both sides.", valueName: "path"))
  var qemu: String?
  @Option(help: ArgumentHelp("QEMU of the source.", valueName: "path"))
  var sourceQemu: String?
  @Option(help: ArgumentHelp("QEMU of the destination.", valueName: "path"))
  var destinationQemu: String?
  @Option(help: ArgumentHelp("Guest RAM.", valueName: "size"), transform: UnitArguments.size)
  var memory: ByteCount?
  @Option(help: "Machine type.")
  var machine: GuestSpecification.Machine?
  @Option(help: "What guest RAM is made of; memfd, file and hugepages are shared.")
  var backend: GuestSpecification.Backend?
  @Option(help: "Accelerator.")
  var accel: GuestSpecification.Accelerator?
  @Option(help: ArgumentHelp("Virtual processors.", valueName: "number"))
  var smp: Int?
  @Option(help: ArgumentHelp("NUMA nodes, each a RAM block.", valueName: "number"))
  var numa: Int?
  @Option(
    help: ArgumentHelp("Rate of the migration link (default: 1Gbit).", valueName: "rate"),
    transform: UnitArguments.rate)
  var linkRate: ByteRate?
  @Option(
    help: ArgumentHelp("Memory the guest rewrites, such as 20MiB/s; or max.", valueName: "rate"),
    transform: LabArguments.dirtyRate)
  var dirtyRate: RateOrMax?
  @Option(
    help: ArgumentHelp("Size of the memory that is rewritten.", valueName: "size"),
    transform: UnitArguments.size)
  var hot: ByteCount?
  @Option(help: "Which page is rewritten next.")
  var pattern: GuestSpecification.Workload.Pattern?
  @Option(help: "How Godwit gets and places page bytes.")
  var pageSource: MigrationRequest.PageSourceChoice = .auto
  @Option(
    help: ArgumentHelp("Longest acceptable guest pause.", valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var downtime: UInt64?
  @Option(
    help: ArgumentHelp(
      "Longest time until the guest runs at the destination (Godwit).", valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var within: UInt64?
  @Option(
    help: ArgumentHelp(
      "When that time is about to run out (Godwit): stop, postcopy or abort.", valueName: "action"))
  var atDeadline: DeadlineAction?
  @Option(
    help: ArgumentHelp(
      "Pause up to which a strategy may raise its limit (Godwit).", valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var maxDowntime: UInt64?
  @Option(
    help: ArgumentHelp(
      "Most of its processor time that the guest may be denied, 0 to 99 (Godwit).",
      valueName: "percent"))
  var maxThrottle: UInt64?
  @Option(help: ArgumentHelp("How: at-once, stepwise or freeze (Godwit).", valueName: "form"))
  var throttle: ThrottleForm?
  @Option(
    help: ArgumentHelp(
      "How Godwit makes pages smaller: auto, off, lz4 or zstd.", valueName: "choice"))
  var compaction: MigrationRequest.CompactionChoice?
  @Option(
    help: ArgumentHelp(
      "Measure a return: the guest was at the destination, left it with --keep, and has been at the source for so long (QEMU: has lived as long).",
      valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var returnAfter: UInt64?
  @Option(
    help: ArgumentHelp("Cancel a migration that takes longer.", valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var timeout: UInt64?
  @Option(
    help: ArgumentHelp(
      "Move with these methods alone, separated by commas: \(LabMethod.names); qemu and godwit alone mean"
        + " pre-copy.", valueName: "methods"),
    transform: LabArguments.methods)
  var only: LabArguments.Methods?
  @Option(
    help: ArgumentHelp(
      "Strategies of Godwit's, separated by commas, beside QEMU.", valueName: "names"),
    transform: LabArguments.strategies)
  var strategy: LabArguments.Methods?
  @Option(
    name: .customLong("repeat"),
    help: ArgumentHelp("How often (default: 1; of a file: its rounds).", valueName: "number"))
  var repeatCount: Int?
  @Option(
    help: ArgumentHelp(
      "Of a file: these guests or disks alone, separated by commas.", valueName: "names"),
    transform: LabArguments.names)
  var guest: [String]?
  @Option(
    help: ArgumentHelp("Of a file: seed of the order (default: the file's).", valueName: "number"))
  var seed: UInt64?
  @Option(
    help: ArgumentHelp(
      "Of a file: keep results here, and go on from them. Of a suite: a folder.", valueName: "file"),
    completion: .file())
  var results: String?
  @Flag(
    help:
      "Forecast each of Godwit's migrations before it begins, as `godwit plan` does, and hold it against its outcome."
  )
  var forecast = false
  @Flag(help: "Do not compare all RAM pages while the guest is stopped.")
  var noAudit = false
  @Flag(help: "Use the loopback interface even as root.")
  var loopback = false
  @Flag(help: "Agents talk over plain TCP, to see what TLS costs.")
  var insecure = false
  @Flag(help: "Leave everything in place afterwards, until Ctrl-C.")
  var keep = false
  @OptionGroup var output: OutputOptions

  /// Experiments that are files come from there; the others are the program's own.
  var isMatrix: Bool { Scenario.named(scenario) == nil }

  func validate() throws {
    if let maxThrottle, maxThrottle > 99 {
      throw ValidationError("--max-throttle takes 0 to 99, not \(maxThrottle)")
    }
    if let repeatCount, !(1...10_000).contains(repeatCount) {
      throw ValidationError("--repeat takes 1 to 10000, not \(repeatCount)")
    }
    let named = (only?.methods ?? []) + (strategy?.methods ?? [])
    if !isMatrix, let tuned = named.first(where: { $0.tuning != nil }) {
      throw ValidationError(
        "\(TerminalText.plain(tuned.name)): tunings are for experiments that are files")
    }
    if !isMatrix, let wrong = named.first(where: \.isOfDisks) {
      throw ValidationError("\(wrong.name) moves a disk alone; \(scenario) moves a guest")
    }
    if isMatrix { for name in try experiments() { _ = try selection(try Self.load(name)) } }
    if let wrong = isMatrix ? nameOfOptionThatIsTheFiles : nameOfOptionThatNeedsAFile {
      throw ValidationError(
        isMatrix
          ? "\(wrong) is said by the experiment's file"
          : "\(wrong) is for experiments that are files")
    }
  }

  func run() async throws {
    guard !isMatrix else { return try await runMatrix() }
    let screen = LabScreen(json: output.json)
    let run = LabRun(options: options(), observer: screen)
    let trials = try await LabWork.run(screen) {
      var trials: [Trial] = []
      try await run.run { trial in
        trials.append(trial)
        await screen.finished(trial)
      }
      return trials
    }
    await screen.summary(trials)
    guard trials.allSatisfy(\.isGood) else { throw ExitStatus.failed.exitCode }
  }

  /// What Godwit is asked for, whatever is moved.
  var constraints: MethodTuning {
    var tuning = MethodTuning()
    (tuning.withinMs, tuning.downtimeCeilingMs) = (within, maxDowntime)
    (tuning.atDeadline, tuning.throttleForm) = (atDeadline, throttle)
    (tuning.maxThrottlePercent, tuning.compaction) = (maxThrottle, compaction)
    return tuning
  }

  func options() -> LabOptions {
    var options = Scenario.named(scenario)?.options ?? LabOptions()
    options.sourceQEMU = sourceQemu ?? qemu
    options.destinationQEMU = destinationQemu ?? qemu
    if let memory { options.guest.memory = memory }
    if let machine { options.guest.machine = machine }
    if let backend { options.guest.backend = backend }
    if let accel { options.guest.accelerator = accel }
    if let smp { options.guest.cpus = smp }
    if let numa { options.guest.numaNodes = numa }
    if let hot { options.guest.workload.hotMiB = hot.bytes >> 20 }
    if let dirtyRate { options.guest.workload.dirtyMiBPerSecond = dirtyRate.mebibytesPerSecond }
    if let pattern { options.guest.workload.pattern = pattern }
    if let strategy { options.methods = [.qemu] + strategy.methods }
    if let only { options.methods = only.methods }
    if let downtime { options.downtimeLimitMs = downtime }
    if let timeout { options.timeoutMs = timeout }
    options.linkRate = linkRate
    options.returnAfterMs = returnAfter
    options.tuning = constraints
    options.pageSource = pageSource
    options.repeatCount = repeatCount ?? 1
    options.audit = !noAudit
    options.forceLoopback = loopback
    options.insecure = insecure
    options.keep = keep
    if forecast { options.forecaster = Self.forecaster }
    return options
  }
}

extension GuestSpecification.Machine: ExpressibleByArgument {}
extension GuestSpecification.Backend: ExpressibleByArgument {}
extension GuestSpecification.Accelerator: ExpressibleByArgument {}
extension GuestSpecification.Workload.Pattern: ExpressibleByArgument {}
