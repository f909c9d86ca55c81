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
  /// Hundredths of the highest load average before a migration.
  @OrNull public var loadPercent: UInt64?
  /// Guests ran in QEMU's translator.
  public var isTranslated: Bool
  /// The link had a latency; others used it; disks were limited by QEMU's filter.
  public var hasDistance, hasOthersTraffic, hasLimitedDisks: Bool
  /// Disks were drives with a head; nil: of an earlier version, which had none.
  public var hasHeadedDisks: Bool?

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
    links = distinct(
      results.map { ByteRate(bytesPerSecond: $0.lab.linkBytesPerSecond)?.description ?? "none" })
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
