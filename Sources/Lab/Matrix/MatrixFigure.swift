import Agent
import Base

/// What is compared between methods; smaller is better in each but `rate`.
public enum MatrixFigure: String, Sendable, CaseIterable {
  case total, downtime, gap, wire, slower, back, lost, together, processor, memory
  /// Of a disk's clients.
  case rate, latency, tail
  /// The same in the worse phase of a move that has two, as it stands to the time before.
  case phaseSlower, phaseTail
  /// Until a pulled disk was served at the destination.
  case served
  /// What was read from the source's disks.
  case reads
  /// Pages that a guest waited for over the network, after it went on without its memory.
  case faults

  var title: String {
    switch self {
    case .total: "TOTAL"
    case .downtime: "DOWNTIME"
    case .gap: "GAP"
    case .wire: "WIRE"
    case .slower: "SLOWER"
    case .back: "BACK AFTER"
    case .lost: "WORK LOST"
    case .together: "ALL MOVED"
    case .processor: "CPU"
    case .memory: "AGENTS' RAM"
    case .rate: "REQUESTS"
    case .phaseSlower: "WORSE PHASE"
    case .phaseTail: "99 % TO QUIET"
    case .latency: "LATENCY"
    case .tail: "99 %"
    case .served: "SERVED AFTER"
    case .reads: "DISK READ"
    case .faults: "NET FAULTS"
    }
  }

  /// What the column says, for the foot of the table.
  private var meaning: String {
    switch self {
    case .total: "from the request on, with the start of QEMU at the destination"
    case .downtime: "as QEMU or the agent says"
    case .gap: "longest silence that a client saw, without clients the guest's own"
    case .wire:
      "bytes on the migration network; of guests or disks that moved at once, of all of them"
    case .slower:
      "work that was not done during the move, of a disk its clients' requests, in percent"
    case .back: "from the guest's first sign of life to 90 % of its former work"
    case .lost: "all work that the guest did not do until then, as time at full speed"
    case .together: "from the first request until all that moved at once were there"
    case .processor:
      "of QEMU on both hosts, virtual processors left out, and of Godwit's agents; of a disk alone, of the servers on both"
    case .memory: "the most that both agents had of their own"
    case .rate:
      "of a disk's clients, a second, during the move; of none and waio-idle, where nothing moved"
    case .phaseSlower:
      "SLOWER while waio copied the original, or while it copied the surrogate: the larger of both"
    case .phaseTail:
      "99 of 100 requests in the phase in which they took longer, in percent of what they took before the move"
    case .latency: "half of the requests of a disk's clients took no longer during the move"
    case .tail: "99 of 100 of them took no longer"
    case .served: "until a pulled disk was in use at the destination"
    case .reads: "from the source's disk for the move, as whoever moved it says"
    case .faults:
      "pages that a guest which ran at the destination without them waited for over the network, of those that came then"
    }
  }

  /// What the columns of these tables mean.
  static func legend(_ comparisons: [MatrixComparison]) -> [String] {
    let shown = Set(comparisons.flatMap(\.figures))
    return allCases.filter(shown.contains).map { "\($0.title): \($0.meaning)" }
      + ["median [95 % interval] over rounds; ratios are medians of ratios within a round"]
  }

  /// Nil: not measured. Infinite: the migration was not done, so the figure was never reached.
  func value(_ result: MatrixResult) -> Double? {
    let (record, lab) = (result.record, result.lab)
    func number(_ value: UInt64?) -> Double? { value.map { Double($0) } }
    if let disk = lab.disk, isOfClients || self == .served {
      return switch self {
      case .rate: number(disk.during?.perSecond)
      case .phaseSlower: disk.phaseSlowdownPercent.map { Double($0) }
      case .phaseTail: number(disk.phaseTailPercent)
      case .slower: disk.slowdownPercent.map { Double($0) }
      case .latency: number(disk.during?.medianUs)
      case .served: number(disk.pull?.servedMs)
      default: number(disk.during?.tailUs)
      }
    }
    if self == .slower { return lab.throughput.map { Double($0.slowdownPercent) } }
    // Of all guests together: counted once.
    if let together = lab.together, self == .together || self == .wire {
      guard together.member == 0 else { return nil }
      guard let totalMs = together.totalMs else { return isControl(result) ? nil : .infinity }
      return number(self == .wire ? together.wireBytes : totalMs)
    }
    guard result.isDone else { return isOfEveryMove && applies(to: lab) ? .infinity : nil }
    // A guest that was heard on both sides and did not come back in all that time never did.
    func reached(_ field: KeyPath<GuestThroughput, UInt64?>) -> Double? {
      lab.throughput.flatMap {
        number($0[keyPath: field]) ?? (lab.heartbeatGapMs == nil ? nil : .infinity)
      }
    }
    return switch self {
    case .total: number(record.totalMs)
    case .downtime: number(record.downtimeMs)
    case .gap: number(record.clientGapMs ?? lab.heartbeatGapMs)
    case .wire: number(record.wireBytes)
    case .back: reached(\.recoveryMs)
    case .lost: reached(\.lostMs)
    case .slower, .together, .served, .rate, .latency, .tail, .phaseSlower, .phaseTail: nil
    case .reads: number(record.disk.bytesReadAtSource)
    case .faults: record.pull?.networkFaultPercent
    case .processor: number(lab.cost?.processorMs)
    case .memory: number(lab.cost?.agentPeakBytes)
    }
  }

  /// Whether every method has it, for every guest: tables leave others out where nobody has them.
  var isOfEveryMove: Bool {
    ![
      .together, .processor, .memory, .served, .reads, .faults, .rate, .latency, .tail,
      .phaseSlower, .phaseTail,
    ].contains(self)
  }

  /// Done, and nothing moved.
  private func isControl(_ result: MatrixResult) -> Bool {
    result.isDone && result.lab.disk != nil && result.record.totalMs == nil
  }

  /// Of what a disk's clients saw.
  private var isOfClients: Bool {
    [.slower, .rate, .latency, .tail, .phaseSlower, .phaseTail].contains(self)
  }

  /// A disk alone has no downtime, and no work but its clients' requests.
  func applies(to lab: MatrixResult.Facts) -> Bool {
    lab.disk == nil || ![.downtime, .back, .lost].contains(self)
  }

  func text(_ value: Double) -> String {
    guard value.isFinite else { return "never" }
    let whole = UInt64(clamping: Int64(max(min(value.rounded(), 9e15), 0)))
    switch self {
    case .slower, .phaseSlower, .phaseTail: return "\(Int(value.rounded())) %"
    case .rate: return "\(whole)/s"
    case .faults: return "\(MatrixTable.hundredths(value)) %"
    case .wire, .memory, .reads: return ByteCount(whole).description
    case .latency, .tail:
      guard whole >= 1000 else { return "\(whole) us" }
      let tenths = (whole + 50) / 100
      guard tenths < 1000 else { return Milliseconds.format((whole + 500) / 1000) }
      return tenths % 10 == 0 ? "\(tenths / 10) ms" : "\(tenths / 10).\(tenths % 10) ms"
    default: return Milliseconds.format(whole)
    }
  }

  /// A ratio of it says something: percents and times that may be 0 have none, nor does what only one side has.
  public var hasRatio: Bool {
    [
      .total, .downtime, .gap, .wire, .lost, .together, .processor, .latency, .tail, .reads,
      .faults,
    ].contains(self)
  }
}
