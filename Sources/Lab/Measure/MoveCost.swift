public import Base
import Glibc
import HostIO

/// What a move cost the hosts beside the guest's own work: processor time while it went on, and memory.
public struct MoveCost: Codable, Sendable, Equatable {
  /// Of QEMU, without the threads of virtual processors.
  @OrNull public var sourceQEMUMs: UInt64?
  @OrNull public var destinationQEMUMs: UInt64?
  /// Of Godwit's agents; nil where QEMU moved the guest by itself.
  @OrNull public var sourceAgentMs: UInt64?
  @OrNull public var destinationAgentMs: UInt64?
  /// Of the servers of disks that were moved alone: whoever has the disk at the source and serves its clients there, and
  /// whoever takes it at the destination.
  @OrNull public var sourceServerMs: UInt64?
  @OrNull public var destinationServerMs: UInt64?
  /// Most memory of its own that an agent had while the move went on, in bytes: not the guest's, which it maps.
  @OrNull public var sourceAgentPeakBytes: UInt64?
  @OrNull public var destinationAgentPeakBytes: UInt64?

  /// Processor time of all of them; nil where one of QEMU's, or of the servers', is not known.
  public var processorMs: UInt64? {
    if let sourceServerMs, let destinationServerMs { return sourceServerMs + destinationServerMs }
    guard let sourceQEMUMs, let destinationQEMUMs else { return nil }
    return sourceQEMUMs + destinationQEMUMs + (sourceAgentMs ?? 0) + (destinationAgentMs ?? 0)
  }

  /// Memory of both agents.
  public var agentPeakBytes: UInt64? {
    guard let sourceAgentPeakBytes, let destinationAgentPeakBytes else { return nil }
    return sourceAgentPeakBytes + destinationAgentPeakBytes
  }
}

/// Reads processes' times before a move and after it.
struct CostMeter {
  /// Nil: the time before is not known.
  private let sources: [(pid: Int32, beforeMs: UInt64?)]
  private let agents: AgentPair?
  private let agentsBeforeMs: (source: UInt64?, destination: UInt64?)
  /// Memory is looked at so often.
  private static let lookEveryMs: UInt64 = 100

  /// - Parameters:
  ///   - sources: the QEMUs that guests are about to leave.
  ///   - agents: nil where there are none.
  init(sources: [Int32], agents: AgentPair?) {
    self.sources = sources.map { (pid: $0, beforeMs: ProcessTime.workMs(of: $0)) }
    self.agents = agents
    agentsBeforeMs = (
      agents.flatMap { ProcessTime.workMs(of: $0.source.process.pid) },
      agents.flatMap { ProcessTime.workMs(of: $0.destination.process.pid) }
    )
  }

  /// The most that both agents had, until the task is cancelled; nil without any.
  func watchMemory() async -> (source: UInt64?, destination: UInt64?) {
    var most: (source: UInt64?, destination: UInt64?) = (nil, nil)
    guard let agents else { return most }
    repeat {
      if let bytes = ProcessMemory.ownBytes(of: agents.source.process.pid) {
        most.source = max(most.source ?? 0, bytes)
      }
      if let bytes = ProcessMemory.ownBytes(of: agents.destination.process.pid) {
        most.destination = max(most.destination ?? 0, bytes)
      }
      try? await Task.sleep(for: .milliseconds(Self.lookEveryMs))
    } while !Task.isCancelled
    return most
  }

  /// - Parameters:
  ///   - destinations: the QEMUs where guests arrived, which began with the move.
  ///   - memory: what `watchMemory` found.
  func read(
    destinations: [Int32], memory: (source: UInt64?, destination: UInt64?)
  ) -> MoveCost {
    var cost = MoveCost()
    (cost.sourceAgentPeakBytes, cost.destinationAgentPeakBytes) = memory
    cost.sourceQEMUMs = Self.sum(
      sources.map { source -> UInt64? in
        guard let beforeMs = source.beforeMs, let now = ProcessTime.workMs(of: source.pid) else {
          return nil
        }
        return now - min(beforeMs, now)
      })
    cost.destinationQEMUMs = Self.sum(destinations.map(ProcessTime.workMs))
    guard let agents else { return cost }
    func spent(_ agent: LabAgent, _ beforeMs: UInt64?) -> UInt64? {
      guard let beforeMs, let now = ProcessTime.workMs(of: agent.process.pid) else { return nil }
      return now - min(beforeMs, now)
    }
    cost.sourceAgentMs = spent(agents.source, agentsBeforeMs.source)
    cost.destinationAgentMs = spent(agents.destination, agentsBeforeMs.destination)
    return cost
  }

  /// Nil when there is none, or one is not known.
  static func sum(_ values: [UInt64?]) -> UInt64? {
    let known = values.compactMap(\.self)
    return known.isEmpty || known.count < values.count ? nil : known.reduce(0, +)
  }
}

/// Memory of processes.
enum ProcessMemory {
  /// Bytes that are the process's own (proc(5), `RssAnon`): not files, and not memory that it shares with a guest;
  /// nil when it is gone.
  static func ownBytes(of pid: Int32) -> UInt64? {
    ProcFile.text("/proc/\(pid)/status").flatMap(parse)
  }

  /// Out of a `status` file, which counts in KiB.
  static func parse(_ status: String) -> UInt64? {
    guard let line = status.split(separator: "\n").first(where: { $0.hasPrefix("RssAnon:") }),
      let kibibytes = UInt64(line.filter { $0.isASCII && $0.isNumber }), kibibytes < 1 << 50
    else { return nil }
    return kibibytes << 10
  }
}

/// Processor time of processes, in the kernel's ticks (10 ms).
enum ProcessTime {
  /// Milliseconds that a process has run, all its threads, also those that ended, but not those of virtual
  /// processors, which QEMU names `CPU 0/TCG`; nil when it is gone.
  static func workMs(of pid: Int32) -> UInt64? {
    guard let whole = ProcFile.text("/proc/\(pid)/stat").flatMap(parse) else { return nil }
    let threads = ProcFile.names(in: "/proc/\(pid)/task").compactMap { name in
      ProcFile.text("/proc/\(pid)/task/\(name)/stat").flatMap(parse)
    }
    let virtual = threads.filter { $0.name.hasPrefix("CPU ") }.reduce(0) { $0 + $1.ticks }
    let perSecond = UInt64(max(sysconf(Int32(_SC_CLK_TCK)), 1))
    return Ratio.scale(whole.ticks - min(virtual, whole.ticks), 1000, over: perSecond)
  }

  /// Name, and time in user and kernel mode, out of a `stat` file; nil for anything else. The name is in
  /// parentheses and may hold any characters; the times are fields 14 and 15 (proc(5)).
  static func parse(_ stat: String) -> (name: String, ticks: UInt64)? {
    guard let begin = stat.firstIndex(of: "("), let end = stat.lastIndex(of: ")"), begin < end
    else { return nil }
    let fields = stat[end...].dropFirst().split(separator: " ")
    guard fields.count > 12, let user = UInt64(fields[11]), let kernel = UInt64(fields[12])
    else { return nil }
    let (ticks, overflow) = user.addingReportingOverflow(kernel)
    return overflow ? nil : (String(stat[stat.index(after: begin)..<end]), ticks)
  }
}
