import Agent
import ArgumentParser
import Base

struct VMsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vms", abstract: "List the virtual machines that this host's agent knows.",
    discussion: """
      The agent finds running QEMU processes and their QMP monitors by itself. A machine without a \
      monitor that the agent can use is listed with the reason why it can't be migrated.
      """)

  @OptionGroup var control: ControlOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let vms = try await control.client.vms()
    if output.json { return try vms.forEach { try Output.json($0) } }
    guard !vms.isEmpty else { return Output.line("no QEMU guests found") }
    var table = Table(["NAME", "PID", "STATE", "QEMU", "MACHINE", "MEMORY", "NOTE"])
    for vm in vms {
      table.add([
        vm.name, vm.pid.map { "\($0)" } ?? "-", vm.status ?? "-", vm.qemuVersion ?? "-",
        vm.machine ?? "-", vm.ramBytes.map { ByteCount($0).description } ?? "-", vm.problem ?? "",
      ])
    }
    table.lines(fitting: Terminal.columns()).forEach(Output.line)
  }
}

struct StatusCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Show the migrations that run now, once.")

  @OptionGroup var control: ControlOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let status = try await control.client.status()
    if output.json { return try status.forEach { try Output.json($0) } }
    guard !status.isEmpty else { return Output.line("no migration runs") }
    for progress in status {
      ProgressView.lines(progress, width: Terminal.columns() ?? 100).forEach(Output.line)
    }
  }
}

struct HistoryCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "history", abstract: "List past migrations of this host, newest first.",
    discussion: """
      ETA ERROR is the mean error of the ETA over the migration, as a part of its whole time. With \
      --eta: the error at a tenth, a quarter, half, three quarters and nine tenths of the time (+: it \
      promised too late an end, -: too early, ?: no end could be named), and the share of looks whose \
      band held the end. --json has every look that was kept.
      """)

  @Option(help: ArgumentHelp("How many to list, 1 to 1000.", valueName: "number"))
  var limit = 20
  @Flag(
    help:
      "How right the ETA was in the course of each completed migration, in place of the figures.")
  var eta = false
  @OptionGroup var control: ControlOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (1...ControlRequest.historyLimitMax).contains(limit) else {
      throw ValidationError("--limit takes 1 to \(ControlRequest.historyLimitMax), not \(limit)")
    }
  }

  func run() async throws {
    let records = try await control.client.history(limit: limit)
    if output.json { return try records.forEach { try Output.json($0) } }
    guard !records.isEmpty else { return Output.line("no migrations yet") }
    if eta {
      return EtaReport.table(records, started: ListTime.utc).lines(fitting: Terminal.columns())
        .forEach(Output.line)
    }
    var table = Table([
      "STARTED", "VM", "SIDE", "PEER", "STRATEGY", "OUTCOME", "TIME", "DOWNTIME", "WIRE",
      "ETA ERROR", "REASON",
    ])
    for record in records {
      table.add([
        record.startedAt.map(ListTime.utc) ?? "-", record.vm ?? "-", record.side ?? "-",
        record.destination ?? record.source ?? "-",
        record.strategy ?? "-", record.outcome.rawValue,
        record.totalMs.map(Milliseconds.format) ?? "-",
        record.downtimeMs.map(Milliseconds.format) ?? "-",
        record.wireBytes.map { ByteCount($0).description } ?? "-",
        record.eta?.meanErrorPermille.map(EtaReport.percent) ?? "-", record.reason ?? "",
      ])
    }
    table.lines(fitting: Terminal.columns()).forEach(Output.line)
  }

}
