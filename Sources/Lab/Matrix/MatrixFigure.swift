import Agent
import Base

/// What is compared between methods; smaller is better in each.
public enum MatrixFigure: String, Sendable, CaseIterable {
  case total, downtime, gap, wire, slower, back, lost, together, processor, memory
  /// Of a disk's clients.
  case latency, tail
  /// Until a pulled disk was served at the destination.
  case served
  /// What was read from the source's disks.
  case reads

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
    case .latency: "LATENCY"
    case .tail: "99 %"
    case .served: "SERVED AFTER"
    case .reads: "DISK READ"
    }
  }

  /// What the columns mean, for the foot of the table.
  static let legend = [
    "TOTAL: with the start of QEMU at the destination; DOWNTIME: as QEMU or the agent says; GAP: longest"
      + " silence that a client saw, without clients the guest's own",
    "SLOWER: work that the guest did not do while it was moved, in percent; BACK AFTER: from its first"
      + " sign of life to 90 % of its former work; WORK LOST: all of it, as time at full speed",
    "ALL MOVED: of guests moved at once, from the first request until the last is there; WIRE is of all of them"
      + " then",
    "CPU: of QEMU on both hosts, virtual processors left out, and of Godwit's agents; AGENTS' RAM: the most that"
      + " both had of their own",
    "LATENCY, 99 %: half of a disk's clients' requests, and 99 of 100, took no longer while it moved; SLOWER of a disk:"
      + " requests that they lacked; SERVED AFTER: until a pulled one was in use at the destination; DISK READ: from the source's disk for the move, as whoever moved it says",
    "median [95 % interval] over rounds; ratios are medians of ratios within a round",
  ]

  /// Nil: not measured. Infinite: the migration was not done, so the figure was never reached.
  func value(_ result: MatrixResult) -> Double? {
    let (record, lab) = (result.record, result.lab)
    func number(_ value: UInt64?) -> Double? { value.map { Double($0) } }
    if let disk = lab.disk, [.slower, .latency, .tail, .served].contains(self) {
      return switch self {
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
      guard let totalMs = together.totalMs else { return .infinity }
      return number(self == .wire ? together.wireBytes : totalMs)
    }
    guard result.isDone else { return isOfEveryMove && applies(to: lab) ? .infinity : nil }
    // A guest that was heard and did not come back in all that time never did.
    func reached(_ field: KeyPath<GuestThroughput, UInt64?>) -> Double? {
      lab.throughput.map { number($0[keyPath: field]) ?? .infinity }
    }
    return switch self {
    case .total: number(record.totalMs)
    case .downtime: number(record.downtimeMs)
    case .gap: number(record.clientGapMs ?? lab.heartbeatGapMs)
    case .wire: number(record.wireBytes)
    case .back: reached(\.recoveryMs)
    case .lost: reached(\.lostMs)
    case .slower, .together, .latency, .tail, .served: nil
    case .reads: number(record.disk.bytesReadAtSource)
    case .processor: number(lab.cost?.processorMs)
    case .memory: number(lab.cost?.agentPeakBytes)
    }
  }

  /// Whether every method has it, for every guest: tables leave others out where nobody has them.
  var isOfEveryMove: Bool {
    ![.together, .processor, .memory, .latency, .tail, .served, .reads].contains(self)
  }

  /// A disk alone has no downtime, and no work but its clients' requests.
  func applies(to lab: MatrixResult.Facts) -> Bool {
    lab.disk == nil || ![.downtime, .back, .lost].contains(self)
  }

  func text(_ value: Double) -> String {
    guard value.isFinite else { return "never" }
    let whole = UInt64(clamping: Int64(max(min(value.rounded(), 9e15), 0)))
    switch self {
    case .slower: return "\(Int(value.rounded())) %"
    case .wire, .memory, .reads: return ByteCount(whole).description
    case .latency, .tail:
      guard whole >= 1000 else { return "\(whole) us" }
      let tenths = (whole + 50) / 100
      guard tenths < 100 else { return Milliseconds.format((whole + 500) / 1000) }
      return tenths % 10 == 0 ? "\(tenths / 10) ms" : "\(tenths / 10).\(tenths % 10) ms"
    default: return Milliseconds.format(whole)
    }
  }

  /// A ratio of it says something: percents and times that may be 0 have none, nor does what only one side has.
  public var hasRatio: Bool {
    [
      .total, .downtime, .gap, .wire, .lost, .together, .processor, .latency, .tail, .reads,
    ].contains(self)
  }
}
