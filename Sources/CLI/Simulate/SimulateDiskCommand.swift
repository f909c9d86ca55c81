import Agent
public import ArgumentParser
import Base
import DiskStrategy
public import Simulator

struct SimulateDiskCommand: AsyncParsableCommand {
  enum Disk: String, ExpressibleByArgument, CaseIterable {
    case hdd, ssd, network

    var model: DiskModel {
      switch self {
      case .hdd: .hdd
      case .ssd: .ssd
      case .network: .network
      }
    }
  }

  static let configuration = CommandConfiguration(
    commandName: "disk", abstract: "Simulate the move of a disk with each method.",
    discussion: """
      Runs the decisions of godwit block move in virtual time, against a model of a disk, a link and a guest \
      that uses the disk meanwhile, and prints medians: total time, how long the guest's writes waited at \
      the end, what the disk was read, for guest and move and for the move alone, what crossed the network, and the guest's \
      requests per second and the 99th percentile of their latency as parts of the same guest's whose disk \
      doesn't move. What is modelled is in Docs/simulator.md. Exit status 1 when a run breaks a rule: the \
      destination lacks something at the end.
      """)

  /// Those that are modelled: they need nothing beside the disk and the destination.
  enum Method: String, ExpressibleByArgument, CaseIterable {
    case precopy, mirror, iofollow

    var decisions: MoveMethod {
      switch self {
      case .precopy: .precopy
      case .mirror: .mirror
      case .iofollow: .iofollow
      }
    }
  }

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Methods to compare; without, all that are modelled.",
      valueName: "name"))
  var method: [Method] = []
  @Option(help: "What the disk is: a drive with a head, a SATA SSD, or a volume over 1 Gbit/s.")
  var disk = Disk.hdd
  @Option(
    help: ArgumentHelp("Size of the disk, to 64GiB (default: 1GiB).", valueName: "size"),
    transform: UnitArguments.size)
  var size = ByteCount.mebibytes(1024)
  @Option(help: "Where the guest's requests go.")
  var pattern = DiskLoadModel.Pattern.uniform
  @Option(help: ArgumentHelp("Requests that the guest has open, 0 to 256.", valueName: "number"))
  var clients = 2
  @Option(help: ArgumentHelp("Reads among them, in percent.", valueName: "number"))
  var reads = 70
  @Option(
    help: ArgumentHelp("Size of a request, 4KiB to 1MiB (default: 8KiB).", valueName: "size"),
    transform: UnitArguments.size)
  var request = ByteCount(8192)
  @Option(help: ArgumentHelp("Share of the disk that it uses, in percent.", valueName: "number"))
  var used = 50
  @Option(
    help: ArgumentHelp(
      "Its time between an answer and the next request (default: 5ms).", valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var think: UInt64 = 5
  @Option(
    help: ArgumentHelp("What the link carries (default: 117MB/s).", valueName: "rate"),
    transform: UnitArguments.rate)
  var link = ByteRate(parsing: "117MB/s")
  @Option(
    help: ArgumentHelp("What the copier may send.", valueName: "rate"),
    transform: UnitArguments.rate)
  var bandwidth: ByteRate?
  @Option(
    help: ArgumentHelp(
      "Host memory that keeps what was read and written last (default: 64MiB).", valueName: "size"),
    transform: UnitArguments.size)
  var cache = ByteCount.mebibytes(64)
  @Option(help: ArgumentHelp("Breaks of the connection in the first minute.", valueName: "number"))
  var cuts = 0
  @Option(help: ArgumentHelp("Runs of each method, 1 to 10000.", valueName: "number"))
  var runs = 10
  @Option(help: ArgumentHelp("Seed of the first run.", valueName: "number"))
  var seed: UInt64 = 1
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (1...10_000).contains(runs) else { throw ValidationError("--runs takes 1 to 10000") }
    guard (0...256).contains(clients) else { throw ValidationError("--clients takes 0 to 256") }
    guard (0...100).contains(reads), (1...100).contains(used) else {
      throw ValidationError("--reads takes 0 to 100, --used 1 to 100")
    }
    guard (0...1000).contains(cuts) else { throw ValidationError("--cuts takes 0 to 1000") }
    guard (4096...1 << 20).contains(request.bytes), (1 << 20...64 << 30).contains(size.bytes) else {
      throw ValidationError("--request takes 4KiB to 1MiB, --size 1MiB to 64GiB")
    }
    guard link.map({ $0.bytesPerSecond > 0 }) == true else {
      throw ValidationError("--link takes a rate above 0")
    }
  }

  private var setup: DiskMoveSetup {
    var load = DiskLoadModel()
    (load.pattern, load.clients, load.readPercent) = (pattern, clients, reads)
    load.requestBlocks = Int(clamping: request.bytes / 4096)
    (load.usedPercent, load.thinkUs) = (used, min(think, 3_600_000) * 1000)
    var setup = DiskMoveSetup(nil, disk: disk.model, load: load, byteCount: size.bytes)
    setup.linkBytesPerSecond = Double(link?.bytesPerSecond ?? 1)
    setup.cacheBytes = cache.bytes
    setup.bandwidth = bandwidth?.bytesPerSecond
    return setup
  }

  func run() async throws {
    var table = Table([
      "METHOD", "ENDED", "TOTAL", "PAUSE", "DISK READ", "FOR THE MOVE", "ON THE WIRE", "GUEST",
      "P99",
    ])
    var violations: [String] = []
    for method in method.isEmpty ? Method.allCases : method {
      var own = setup
      own.method = method.decisions
      guard let batch = DiskMoveBatch(own, runs: runs, seed: seed, cuts: cuts) else {
        throw ValidationError("no disk has \(size)")
      }
      violations += batch.violations.map { "\(method.rawValue), seed \($0.seed): \($0.what)" }
      if output.json {
        try Output.json(Answer(method, batch))
      } else {
        table.add(Self.row(method, batch))
      }
    }
    if !output.json { table.lines.forEach(Output.line) }
    violations.prefix(10).forEach(Output.error)
    guard violations.isEmpty else { throw ExitStatus.failed.exitCode }
  }

  private static func row(_ method: Method, _ batch: DiskMoveBatch) -> [String] {
    [
      method.rawValue, "\(batch.ended)/\(batch.runs)", SimulationReport.time(batch.totalMs),
      SimulationReport.time(batch.pauseMs), SimulationReport.size(batch.readBytes),
      SimulationReport.size(batch.moveReadBytes),
      SimulationReport.size(batch.wireBytes),
      batch.guestShare.map { SimulationReport.percent($0.median) } ?? "-",
      batch.p99Ratio.map { "\((($0.median * 10).rounded()) / 10) x" } ?? "-",
    ]
  }
}

extension SimulateDiskCommand {
  /// One line of `--json`: medians.
  struct Answer: Encodable {
    let method: String
    let runs, ended: Int
    @OrNull var totalMs: Double?
    @OrNull var pauseMs: Double?
    @OrNull var readBytes: Double?
    @OrNull var moveReadBytes: Double?
    @OrNull var wireBytes: Double?
    @OrNull var guestShare: Double?
    @OrNull var p99Ratio: Double?
    let violations: Int

    init(_ method: Method, _ batch: DiskMoveBatch) {
      (self.method, runs, ended) = (method.rawValue, batch.runs, batch.ended)
      (totalMs, pauseMs) = (batch.totalMs?.median, batch.pauseMs?.median)
      (readBytes, wireBytes) = (batch.readBytes?.median, batch.wireBytes?.median)
      moveReadBytes = batch.moveReadBytes?.median
      (guestShare, p99Ratio) = (batch.guestShare?.median, batch.p99Ratio?.median)
      violations = batch.violations.count
    }
  }
}

extension DiskLoadModel.Pattern: ExpressibleByArgument {}
