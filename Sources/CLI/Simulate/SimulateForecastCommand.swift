import Agent
import ArgumentParser
import Base
import Simulator
import Strategy

struct SimulateForecastCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "forecast", abstract: "Forecast a migration from what was measured of a guest.",
    discussion: """
      Takes how many distinct pages a guest dirties in windows of several lengths, fits a model to them, \
      simulates each strategy and prints what to expect, in bands that hold nine tenths of the runs, \
      how likely the constraints are kept, and which strategy auto would take.
      """)

  @Option(help: ArgumentHelp("RAM of the guest.", valueName: "size"), transform: UnitArguments.size)
  var ram: ByteCount
  @Option(
    name: .customLong("dirtied"), parsing: .upToNextOption,
    help: ArgumentHelp(
      "Memory dirtied in a window, as WINDOW:SIZE, such as 1s:120MiB; one or more.",
      valueName: "window:size"),
    transform: Self.point)
  var curve: [GuestProfile.Point]
  @Option(help: ArgumentHelp("Share of RAM that is zero, in percent.", valueName: "number"))
  var zeroPercent: UInt64 = 0
  @Option(help: ArgumentHelp("Wire bytes of a page that isn't zero.", valueName: "number"))
  var pageBytes: UInt64 = 4120
  @Option(help: ArgumentHelp("vCPUs of the guest.", valueName: "number"))
  var vcpus: UInt64 = 1
  @OptionGroup(title: "Link") var link: LinkOptions
  @OptionGroup(title: "Constraints") var wishes: ConstraintOptions
  @Flag(help: "The destination can run the guest before its memory is there.")
  var pull = false
  @Option(help: ArgumentHelp("Runs of each strategy, 1 to 100000.", valueName: "number"))
  var runs = 40
  @Option(help: ArgumentHelp("Seed of the first run.", valueName: "number"))
  var seed: UInt64 = 1
  @OptionGroup var output: OutputOptions

  @Sendable static func point(_ text: String) throws -> GuestProfile.Point {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2, let window = Milliseconds.parse(String(parts[0])), window > 0,
      let size = ByteCount(parsing: String(parts[1]))
    else {
      throw ValidationError(
        "\(TerminalText.plain(text)) is no window and size: write 1s:120MiB")
    }
    return GuestProfile.Point(
      windowMs: window, pages: UInt64(Page.count(bytes: size.bytes)))
  }

  func validate() throws {
    guard (1 << 20...1 << 46).contains(ram.bytes) else {
      throw ValidationError("--ram takes 1MiB to 64TiB")
    }
    guard zeroPercent <= 100, (1...8192).contains(pageBytes), (1...4096).contains(vcpus),
      (1...100_000).contains(runs), curve.count <= 64
    else {
      throw ValidationError(
        "--zero-percent takes up to 100, --page-bytes 8192, --vcpus 4096, --runs 100000, --dirtied 64 windows"
      )
    }
  }

  func run() async throws {
    let profile = GuestProfile(
      ramPages: UInt64(Page.count(bytes: ram.bytes)), zeroPermille: zeroPercent * 10,
      pageBytes: Double(pageBytes), vcpuCount: vcpus, dirtyCurve: curve)
    let forecast = MigrationForecast(
      profile, link: link.model, constraints: wishes.constraints, canPull: pull, runs: runs,
      seed: seed)
    if output.json {
      try Output.json(ForecastReport.Answer(forecast))
    } else {
      ForecastReport.lines(forecast).forEach(Output.line)
    }
  }
}
