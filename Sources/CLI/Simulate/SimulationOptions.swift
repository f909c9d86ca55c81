import Agent
public import ArgumentParser
import Base
import Simulator
public import Strategy

/// The guest of a simulation.
struct GuestOptions: ParsableArguments {
  enum Workload: String, ExpressibleByArgument, CaseIterable {
    case idle, uniform, sweep, hotset, zipf
  }

  @Option(
    help: ArgumentHelp("RAM of the guest (default: 4GiB).", valueName: "size"),
    transform: UnitArguments.size)
  var ram = ByteCount.mebibytes(4096)
  @Option(
    help:
      "What it writes: anywhere in its working set, page by page, 80 % to a fifth, or by Zipf's law."
  )
  var workload = Workload.hotset
  @Option(
    help: ArgumentHelp("Memory that it writes to (default: 256MiB).", valueName: "size"),
    transform: UnitArguments.size)
  var workingSet = ByteCount.mebibytes(256)
  @Option(
    help: ArgumentHelp(
      "Pages that it writes, repeats included (default: 50MiB/s).", valueName: "rate"),
    transform: UnitArguments.rate)
  var dirtyRate = ByteRate(parsing: "50MiB/s")
  @Option(help: ArgumentHelp("Share of RAM that is zero, in percent.", valueName: "number"))
  var zeroPercent: UInt64 = 0
  @Option(help: ArgumentHelp("Wire bytes of a page that isn't zero.", valueName: "number"))
  var pageBytes: UInt64 = 4120
  @Option(help: ArgumentHelp("vCPUs of the guest.", valueName: "number"))
  var vcpus: UInt64 = 4
  @Option(
    help: ArgumentHelp(
      "It is busy for half of this time, then writes at a tenth of its rate.", valueName: "duration"
    ),
    transform: UnitArguments.milliseconds)
  var phases: UInt64?
  @Option(
    help: ArgumentHelp(
      "Replay this trace; then the other options of the guest say nothing.", valueName: "path"))
  var trace: String?

  mutating func validate() throws {
    guard (1 << 20...1 << 46).contains(ram.bytes) else {
      throw ValidationError("--ram takes 1MiB to 64TiB")
    }
    guard zeroPercent <= 100 else { throw ValidationError("--zero-percent takes 0 to 100") }
    guard (1...8192).contains(pageBytes) else {
      throw ValidationError("--page-bytes takes 1 to 8192")
    }
    guard (1...4096).contains(vcpus) else { throw ValidationError("--vcpus takes 1 to 4096") }
  }

  func model() throws -> GuestModel {
    if let trace { return GuestModel(replaying: try TraceFile.read(trace)) }
    let memory = GuestModel.Memory(
      ram: ram, zeroPermille: zeroPercent * 10, pageBytes: Double(pageBytes), vcpuCount: vcpus)
    let pages = Double(dirtyRate?.bytesPerSecond ?? 0) / 4096
    let guest: GuestModel =
      switch workload {
      case .idle: .uniform(memory, workingSet: .mebibytes(1), pagesPerSecond: 0)
      case .uniform: .uniform(memory, workingSet: workingSet, pagesPerSecond: pages)
      case .sweep: .uniform(memory, workingSet: workingSet, pagesPerSecond: pages, pattern: .sweep)
      case .hotset: .hotSet(memory, workingSet: workingSet, pagesPerSecond: pages)
      case .zipf: .zipf(memory, workingSet: workingSet, pagesPerSecond: pages)
      }
    return phases.map { guest.withPhases(cycleMs: max($0, 2), quiet: 0.1) } ?? guest
  }
}

/// The network of a simulation.
struct LinkOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("Rate of the link (default: 1Gbit).", valueName: "rate"),
    transform: UnitArguments.rate)
  var rate: ByteRate?
  @Option(help: ArgumentHelp("Latency one way, in microseconds.", valueName: "number"))
  var latencyUs: UInt64 = 200
  @Option(
    help: ArgumentHelp(
      "Deviation of the rate from one moment to the next, in percent.", valueName: "number"))
  var jitterPercent: UInt64 = 2
  @Option(help: ArgumentHelp("Packets lost of a million.", valueName: "number"))
  var lossPpm: UInt64 = 0
  @Option(help: ArgumentHelp("Connections that share the load.", valueName: "number"))
  var lanes: UInt64 = 4
  @Option(
    help: ArgumentHelp(
      "Share of the link that others take for 5 s in every 10, in percent.", valueName: "number"))
  var competingPercent: UInt64 = 0

  mutating func validate() throws {
    guard latencyUs <= 10_000_000, jitterPercent <= 50, lossPpm <= 500_000, competingPercent <= 99,
      (1...1024).contains(lanes)
    else {
      throw ValidationError(
        "--latency-us takes up to 10000000, --jitter-percent 50, --loss-ppm 500000, --competing-percent 99, --lanes 1024"
      )
    }
  }

  var model: LinkModel {
    LinkModel(
      bytesPerSecond: Double(rate?.bytesPerSecond ?? 125_000_000),
      latencyMs: Double(latencyUs) / 1000, jitter: Double(jitterPercent) / 100,
      loss: Double(lossPpm) / 1e6, lanes: lanes,
      competing: competingPercent == 0
        ? nil
        : LinkModel.Competing(share: Double(competingPercent) / 100, onMs: 5000, offMs: 5000))
  }
}

extension StrategyName: ExpressibleByArgument {}
