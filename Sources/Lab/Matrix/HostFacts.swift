public import Base
import Glibc
import HostIO

/// The machine that an experiment ran on.
public struct HostFacts: Codable, Sendable, Equatable {
  public var processors: Int
  @OrNull public var processor: String?
  @OrNull public var kernel: String?
  /// Hundredths of the load average over a minute when the migration began: whether the machine was quiet.
  @OrNull public var loadPercent: UInt64?

  /// For people.
  var name: String {
    "\(processors) processors (\(processor ?? "unknown")), Linux \(kernel ?? "unknown")"
  }
}

extension HostFacts {
  static func read() -> HostFacts {
    let processor = (try? SmallFile.read("/proc/cpuinfo", bytesMax: 4 << 20))
      .flatMap { $0.split(separator: "\n").first { $0.hasPrefix("model name") } }
      .flatMap { $0.split(separator: ":").last }
    let kernel = try? SmallFile.read("/proc/sys/kernel/osrelease")
    return HostFacts(
      processors: sysconf(Int32(_SC_NPROCESSORS_ONLN)),
      processor: processor.map { String($0.drop { $0 == " " }) },
      kernel: kernel.map { String($0.prefix { !$0.isNewline }) })
  }

  /// `1.53` in `/proc/loadavg` is 153.
  static func loadPercent() -> UInt64? {
    guard let text = try? SmallFile.read("/proc/loadavg"),
      let first = text.split(separator: " ").first, let load = Double(first), load < 1e6
    else { return nil }
    return UInt64(load * 100)
  }
}
