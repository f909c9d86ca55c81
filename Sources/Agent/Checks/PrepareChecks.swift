import Base
import QMP
import Strategy

/// Everything that can be known to fail before a page moves. Pure.
public enum PrepareChecks {
  /// All reasons not to begin; empty: go on.
  ///
  /// - Parameter destination: the waiting QEMU; nil before it runs, and then only the source and the
  ///   host are looked at.
  /// - Parameter host: the destination's host.
  public static func check(
    source: VMFacts, destination: VMFacts?, host: HostFacts?, request: MigrationRequest
  ) -> [Refusal] {
    var refusals = SourceChecks.check(source, request: request)
    if let destination { refusals += PairChecks.check(source, destination) }
    if let host { refusals += memory(source, destination, host) }
    return refusals
  }

  /// Free memory for the blocks that are not in huge pages: those QEMU reserved when it started.
  private static func memory(
    _ source: VMFacts, _ destination: VMFacts?, _ host: HostFacts
  ) -> [Refusal] {
    guard let available = host.memoryAvailable else { return [] }
    let needed: UInt64
    if let destination {
      let inHugePages = destination.ramBlocks.filter { $0.pageSize > 4096 }.map(\.usedSize)
      needed = inHugePages.reduce(source.ramBytes) { $0 > $1 ? $0 - $1 : 0 }
    } else {
      needed = source.ramBytes
    }
    guard needed > available else { return [] }
    return [
      Refusal(
        .memory,
        "the guest needs \(mebibytes(needed)) and the destination has \(mebibytes(available)) available",
        remedy: "free memory at the destination or choose another host")
    ]
  }

  /// What keeping track of the guest's pages at the source takes.
  ///
  /// - Parameter memoryLimit: the agent's, in bytes.
  static func ledger(_ source: VMFacts, memoryLimit: UInt64) -> [Refusal] {
    let needed = PageLedger.byteCount(pages: source.ramBytes / UInt64(Page.size))
    guard needed > memoryLimit else { return [] }
    let wanted = (needed >> 20) + 1
    return [
      Refusal(
        .memory,
        "\(wanted) MiB to keep track of the guest's RAM are over the memory limit of the source's agent, "
          + mebibytes(memoryLimit),
        remedy: "set memoryLimit to \"\(wanted)MiB\" or more in its configuration")
    ]
  }

  static func mebibytes(_ bytes: UInt64) -> String { "\(bytes >> 20) MiB" }
}
