import HostIO
import NIOPosix

/// What a host can offer a VM that comes to it.
public struct HostFacts: Codable, Sendable, Equatable {
  /// `MemAvailable` of `/proc/meminfo`, in bytes; nil when it cannot be read.
  public var memoryAvailable: UInt64?
  /// Huge pages that are free, by size in bytes.
  public var hugePagesFree: [UInt64: UInt64] = [:]

  public init(memoryAvailable: UInt64?, hugePagesFree: [UInt64: UInt64] = [:]) {
    (self.memoryAvailable, self.hugePagesFree) = (memoryAvailable, hugePagesFree)
  }

  /// Reads them from this host.
  public static func gather() async throws -> HostFacts {
    try await NIOThreadPool.singleton.runIfActive { gatherBlocking() }
  }

  static func gatherBlocking() -> HostFacts {
    HostFacts(
      memoryAvailable: ProcFile.text("/proc/meminfo").flatMap(parseAvailable),
      hugePagesFree: hugePages())
  }

  /// The line `MemAvailable:   23456789 kB`.
  static func parseAvailable(_ text: String) -> UInt64? {
    for line in text.split(whereSeparator: \.isNewline) where line.hasPrefix("MemAvailable:") {
      let words = line.split(separator: " ")
      guard words.count == 3, words[2] == "kB", let kibibytes = UInt64(words[1]) else { return nil }
      let (bytes, overflow) = kibibytes.multipliedReportingOverflow(by: 1024)
      return overflow ? nil : bytes
    }
    return nil
  }

  private static func hugePages() -> [UInt64: UInt64] {
    var free: [UInt64: UInt64] = [:]
    let folder = "/sys/kernel/mm/hugepages"
    for name in ProcFile.names(in: folder, limit: 64) {
      // hugepages-2048kB
      guard name.hasPrefix("hugepages-"), name.hasSuffix("kB"),
        let kibibytes = UInt64(name.dropFirst("hugepages-".count).dropLast(2)),
        kibibytes < 1 << 40,
        let text = ProcFile.text("\(folder)/\(name)/free_hugepages", limit: 64),
        let count = UInt64(text.prefix { $0.isNumber })
      else { continue }
      free[kibibytes << 10] = count
    }
    return free
  }
}
