import Base

/// What a page costs.
public struct PagePrice: Sendable, Equatable {
  /// On the wire, at least 1.
  public var bytes: Double
  /// How long the processors of the slower host take for it, all of their threads at work, in microseconds.
  public var us: Double

  /// Less than nothing counts as 0, `bytes` below 1 as 1.
  public init(bytes: Double, us: Double = 0) { (self.bytes, self.us) = (max(bytes, 1), max(us, 0)) }

  /// What could have crossed a link of that rate in the time that the page takes, in bytes.
  func linkBytes(at bytesPerSecond: Double) -> Double { max(bytes, us * bytesPerSecond / 1e6) }
}

/// Pages that the guest treats alike.
public struct PageGroup: Sendable, Equatable {
  /// In which order the guest writes them.
  public enum Pattern: String, Sendable, Codable, CaseIterable {
    /// Each write hits any page of the group: distinct pages are N(1 − e^(−writes/N)).
    case scattered
    /// One page after the other, round and round: every write hits another page until all are hit.
    case sweep
  }

  public var pages: Double
  /// Writes per second to all pages of the group together.
  public var writesPerSecond: Double
  public var pattern: Pattern
  /// What a page of it costs on the wire, in bytes.
  public var wireBytes: Double
  /// How long the processors of the slower host take for a page of it, all of their threads at work, in microseconds.
  public var processorUs: Double
  /// What a page costs of which the destination has an earlier version; nil: as much as the first time.
  public var resent: PagePrice?

  /// Whether its pages are zeros.
  var isZero: Bool { wireBytes <= GuestModel.zeroBytes }

  /// What could have crossed a link of that rate in the time that a page takes, in bytes: its own, or more where
  /// processors are slower than the link.
  func linkBytes(at bytesPerSecond: Double) -> Double {
    max(wireBytes, processorUs * bytesPerSecond / 1e6)
  }

  /// The same of a page of which the destination has an earlier version.
  func resentLinkBytes(at bytesPerSecond: Double) -> Double {
    resent?.linkBytes(at: bytesPerSecond) ?? linkBytes(at: bytesPerSecond)
  }

  var resentBytes: Double { resent?.bytes ?? wireBytes }

  /// Less than nothing counts as 0, `wireBytes` below 1 as 1.
  public init(
    pages: Double, writesPerSecond: Double = 0, pattern: Pattern = .scattered,
    wireBytes: Double = 4120, processorUs: Double = 0
  ) {
    (self.pages, self.writesPerSecond) = (max(pages, 0), max(writesPerSecond, 0))
    (self.pattern, self.wireBytes) = (pattern, max(wireBytes, 1))
    self.processorUs = max(processorUs, 0)
  }
}

/// A stretch of time in which the guest writes more or less than usual.
public struct GuestPhase: Sendable, Equatable {
  public var lengthMs: UInt64
  /// Factor on the writes of each group; missing ones are 1.
  public var factors: [Double]

  /// A length of 0 counts as 1.
  public init(lengthMs: UInt64, factors: [Double]) {
    (self.lengthMs, self.factors) = (max(lengthMs, 1), factors)
  }
}

/// A guest as groups of pages with a write rate each, over phases that repeat.
public struct GuestModel: Sendable, Equatable {
  /// What a page of zeros, and one that can't be compressed, cost on the wire with their framing, in bytes.
  public static let zeroBytes = 10.0
  public static let rawBytes = 4120.0
  /// What a page costs that the destination holds at the same place, and one whose place there is named, with their share
  /// of runs and proofs, in bytes.
  public static let heldBytes = 12.0
  public static let namedBytes = 56.0

  public var groups: [PageGroup]
  public var phases: [GuestPhase]
  public var vcpuCount: UInt64
  /// Reads of a page per write to it, for faults after an early move.
  public var readsPerWrite = 2.0

  /// No vCPU counts as one.
  public init(groups: [PageGroup], phases: [GuestPhase] = [], vcpuCount: UInt64 = 4) {
    (self.groups, self.phases, self.vcpuCount) = (groups, phases, max(vcpuCount, 1))
  }

  public var ramPages: Double { groups.reduce(0) { $0 + $1.pages } }

  /// What all of RAM costs on the wire once, in bytes.
  public var wireBytes: Double { groups.reduce(0) { $0 + $1.pages * $1.wireBytes } }

  /// The same as time on a link of that rate: with what the link waits for processors, in bytes.
  func linkBytes(at bytesPerSecond: Double) -> Double {
    groups.reduce(0) { $0 + $1.pages * $1.linkBytes(at: bytesPerSecond) }
  }

  /// What a page takes of the link's time that is sent again, in bytes, on average over the pages that the guest writes; nil:
  /// as much as the first time.
  func resentLinkBytes(at bytesPerSecond: Double) -> Double? {
    let written = groups.filter { $0.writesPerSecond > 0 }
    guard written.contains(where: { $0.resent != nil }) else { return nil }
    let sum = written.reduce(0) { $0 + $1.pages * $1.resentLinkBytes(at: bytesPerSecond) }
    return sum / max(written.reduce(0) { $0 + $1.pages }, 1)
  }

  /// Writes per page and second of a group at an instant.
  func writesPerPage(_ group: Int, atMs ms: Double) -> Double {
    let base = groups[group].writesPerSecond / max(groups[group].pages, 1)
    guard !phases.isEmpty else { return base }
    let cycleMs = phases.reduce(0.0) { $0 + Double($1.lengthMs) }
    var offset = ms.truncatingRemainder(dividingBy: cycleMs)
    for phase in phases {
      if offset < Double(phase.lengthMs) {
        return base * (phase.factors.indices.contains(group) ? phase.factors[group] : 1)
      }
      offset -= Double(phase.lengthMs)
    }
    return base
  }
}
