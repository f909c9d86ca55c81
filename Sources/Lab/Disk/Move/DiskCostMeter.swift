/// Reads the processor time of disks' servers before a move and after it. Devices with a limit, backups' servers and the
/// commands that give orders are left out.
struct DiskCostMeter {
  private let sources, destinations: [(pid: Int32, beforeMs: UInt64?)]

  init(_ disks: [RunningDisk]) {
    func begun(_ processes: [DiskProcess]) -> [(pid: Int32, beforeMs: UInt64?)] {
      processes.map { ($0.pid, ProcessTime.workMs(of: $0.pid)) }
    }
    sources = begun(disks.map(\.server))
    destinations = begun(disks.map(\.destination))
  }

  /// - Parameter successors: servers that were started for the move in the place of those at the source, which have
  ///   ended: one a disk, or nil.
  func read(successors: [DiskProcess?]) -> MoveCost {
    var cost = MoveCost()
    cost.sourceServerMs = CostMeter.sum(
      zip(sources, successors).map { source, successor in
        successor.map { ProcessTime.workMs(of: $0.pid) } ?? Self.spent(source)
      })
    cost.destinationServerMs = CostMeter.sum(destinations.map(Self.spent))
    return cost
  }

  private static func spent(_ process: (pid: Int32, beforeMs: UInt64?)) -> UInt64? {
    guard let beforeMs = process.beforeMs, let now = ProcessTime.workMs(of: process.pid) else {
      return nil
    }
    return now - min(beforeMs, now)
  }
}
