/// The guest's memory and the page ledger over it, as a run drives them. Two models answer to it:
/// `FluidMemory` counts pages by group, `ExactMemory` knows every page and its version.
protocol SimulatedMemory: Sendable {
  /// Pages never dirtied and never sent, owed ones by heat `0...8`, sent and superseded ones.
  var freshPages: Double { get }
  var owedByHeat: [Double] { get }
  var sentPages: Double { get }
  var supersededPages: Double { get }
  /// Of those sent, pages of zeros.
  var sentZeroPages: Double { get }
  /// What pages that were sent came to on the wire.
  var sentBytes: Double { get }

  /// The guest runs for so long at this speed, 1 being full.
  mutating func run(ms: Double, atMs: Double, speed: Double, noise: inout Noise)
  /// The dirty bitmap is looked at: pages dirtied since the last look, and of these those that were
  /// fresh. They count in the ledger from `finishCollect` on, which tells how many were not owed.
  mutating func beginCollect(noise: inout Noise) -> (dirtied: Double, first: Double)
  mutating func finishCollect() -> Double
  /// Sends owed pages worth at most so many bytes of the link's time (`PageGroup.linkBytes`); the scan over fresh pages
  /// gets this share of the pages where both have something (`scanShare`), and dirty pages of this heat or hotter are left
  /// out. Gives the bytes used.
  mutating func send(
    bytes: Double, scanPermille: UInt64, holdFrom heat: UInt8, noise: inout Noise
  ) -> Double
  /// Bytes of the link's time that everything owed takes.
  var owedBytes: Double { get }
  /// The guest is stopped, everything it dirtied is in the ledger, and the destination lacks what is owed:
  /// per group, the pages that it must pull.
  var invalidByGroup: [Double] { get }
  /// What is wrong with the ledger, or nil.
  func violation(isFinished: Bool) -> String?
}

/// Pages of one of the two streams, and what they take of the link's time, in bytes.
struct StreamLoad: Sendable {
  /// Zero pages count as a part of one, as for agents.
  private static let zerosPerPage = 64.0
  var pages = 0.0
  var bytes = 0.0

  mutating func add(_ pages: Double, _ bytesPerPage: Double, isZero: Bool) {
    self.pages += isZero ? pages / Self.zerosPerPage : pages
    bytes += pages * bytesPerPage
  }
}

extension SimulatedMemory {
  /// The scan's share of the link's bytes. Agents share it out by pages with contents, not by what they are packed to.
  static func scanShare(_ permille: UInt64, scan: StreamLoad, dirty: StreamLoad) -> Double {
    let share = Double(min(permille, 1000)) / 1000
    guard scan.pages > 0, dirty.pages > 0 else { return share }
    let (fromScan, fromDirty) = (
      share * scan.bytes / scan.pages, (1 - share) * dirty.bytes / dirty.pages
    )
    return fromScan + fromDirty > 0 ? fromScan / (fromScan + fromDirty) : share
  }
}
