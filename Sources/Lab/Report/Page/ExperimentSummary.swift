import Agent
public import Base
import HostIO

/// What an index says of an experiment: kept beside its page as `summary.json`, so that an index can be written anew
/// when only some of the experiments were measured again and the results of the others lie elsewhere.
public struct ExperimentSummary: Codable, Sendable, Equatable {
  public var name: String
  /// Migrations; of these, that were done in their time, and whose guest was intact.
  public var migrations, rounds, done, intact: Int
  /// Versions of Godwit, rates of links, networks, machines, and their processors: each distinct, in order.
  public var godwit, links, networks, machines: [String]
  public var processors: [Int]
  /// Commits and programs of Godwit, and the link's latencies each way: nil in summaries of earlier versions.
  @OrNull public var builds: [String]?
  @OrNull public var latencies: [String]?
  /// What others got over the link; nil: there were none.
  @OrNull public var competing: Competing?
  /// Rounds of what was measured in the fewest; nil in summaries of earlier versions.
  @OrNull public var leastRounds: Int?
  /// Hundredths of the highest load average before a migration.
  @OrNull public var loadPercent: UInt64?
  /// Guests ran in QEMU's translator.
  public var isTranslated: Bool
  /// The link had a latency; others used it; disks were limited by QEMU's filter.
  public var hasDistance, hasOthersTraffic, hasLimitedDisks: Bool
  /// Disks were drives with a head; nil: of an earlier version, which had none.
  public var hasHeadedDisks: Bool?

  /// Forecasts held against outcomes; nil: there were none, or a summary of an earlier version.
  @OrNull public var forecasts: Forecasts?

  /// Total times that were forecast, those within their band of nine tenths, and the median error in percent.
  public struct Forecasts: Codable, Sendable, Equatable {
    public var count, withinBand: Int
    public var medianErrorPercent: Int

    init?(_ judgement: ForecastJudgement) {
      guard judgement.count > 0, let error = judgement.medianTotalError else { return nil }
      (count, withinBand) = (judgement.count, judgement.withinBand)
      medianErrorPercent = Int(min((error * 100).rounded(), 1e6))
    }
  }

  /// Bytes per second, over all migrations.
  public struct Competing: Codable, Sendable, Equatable {
    public var median, most: UInt64
  }

  /// Bytes of a summary that is read, at most.
  public static let bytesMax = 64 << 10

  /// Below the folder of the pages.
  static func path(of page: String) -> String { "\(page)/summary.json" }

  init(_ results: [MatrixResult], name: String) {
    func distinct<T: Hashable & Comparable>(_ values: [T]) -> [T] { Set(values).sorted() }
    self.name = name
    migrations = results.count
    rounds = results.map(\.lab.round).max().map { $0 + 1 } ?? 0
    done = results.count(where: \.isDone)
    intact = results.count(where: \.isIntact)
    godwit = distinct(results.map(\.lab.godwit))
    builds = distinct(results.compactMap(\.build))
    links = distinct(results.map { Self.rate($0.lab.linkBytesPerSecond) })
    // By length, not by their words.
    latencies = distinct(results.compactMap(\.lab.linkLatencyMs)).map(Milliseconds.format)
    let others = results.compactMap(\.lab.competingBytesPerSecond).sorted()
    competing = others.last.map { Competing(median: others[others.count / 2], most: $0) }
    let groups = Dictionary(grouping: results) { "\($0.lab.guest)/\($0.lab.qemu)/\($0.lab.method)" }
    leastRounds = groups.values.map { Set($0.map(\.lab.round)).count }.min()
    networks = distinct(results.map(\.lab.network))
    machines = distinct(results.map(\.lab.host.name))
    processors = distinct(results.map(\.lab.host.processors))
    loadPercent = results.compactMap(\.lab.host.loadPercent).max()
    isTranslated = results.contains {
      $0.lab.accelerator == GuestSpecification.Accelerator.tcg.rawValue
    }
    hasDistance = results.contains { $0.lab.linkLatencyMs != nil }
    hasOthersTraffic = results.contains { $0.lab.competingBytesPerSecond != nil }
    hasLimitedDisks = results.contains { $0.lab.disk?.isOfThrottledDevice == true }
    hasHeadedDisks = results.contains { $0.lab.disk?.device == "hdd" }
    forecasts = Forecasts(ForecastJudgement(results.map(\.record)))
  }

  private static func rate(_ bytesPerSecond: UInt64) -> String {
    ByteRate(bytesPerSecond: bytesPerSecond)?.description ?? "none"
  }

  /// What was measured, where: for people who want to know what the figures are worth.
  var facts: [String] {
    func list(_ values: [String]) -> String { values.joined(separator: ", ") }
    let far = latencies ?? []
    var facts = ["\(migrations) migrations, \(rounds) rounds; Godwit \(list(godwit))"]
    if let builds, !builds.isEmpty { facts.append("build: \(list(builds))") }
    facts.append(
      "link: \(list(links))\(far.isEmpty ? "" : ", \(list(far)) each way") (\(list(networks)))")
    if let competing {
      facts.append(
        "beside others' traffic, which got \(Self.rate(competing.median)) at the median and at most "
          + Self.rate(competing.most))
    }
    facts.append("machine: \(list(machines))")
    if let loadPercent {
      let load = MatrixTable.hundredths(Double(loadPercent) / 100)
      facts.append("load average before a migration: at most \(load)")
    }
    if let leastRounds, leastRounds < Estimate.countMin {
      facts.append(
        "fewer than \(Estimate.countMin) rounds\(leastRounds == rounds ? "" : " of some"): "
          + "figures without intervals, from which nothing follows")
    }
    return facts
  }
}

extension ExperimentSummary {
  /// Those beside the pages of a folder, by name. One that isn't whole is as good as none: its page is left out of the
  /// index until it is written again.
  public static func written(in folder: String) -> [ExperimentSummary] {
    ProcFile.names(in: folder).sorted().compactMap { page in
      guard let bytes = try? SmallFile.readBytes("\(folder)/\(path(of: page))", bytesMax: bytesMax)
      else { return nil }
      return try? JSONLine.decode(ExperimentSummary.self, from: bytes)
    }
  }
}
