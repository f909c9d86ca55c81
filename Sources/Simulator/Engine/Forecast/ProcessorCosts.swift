/// What pages take of processors: at the source as it was timed on some of the guest's own pages, at the destination as
/// earlier moves to it show. Pure.
///
/// A page goes no faster than the slowest of three lets it: the link, the source's threads, the destination. For pages
/// that the destination has that is seldom the link, for it carries little of them.
public struct ProcessorCosts: Sendable, Equatable {
  /// Threads at the source that pack and name pages, at least 1.
  public var threads: UInt64
  /// What one of them takes to pack a page, and to name one that the destination has, in nanoseconds; nil: not known.
  public var packNs: UInt64?
  public var nameNs: UInt64?
  /// What the destination takes for a page that it makes of what it has, in nanoseconds; nil: no move showed it.
  public var destinationNs: UInt64?

  public init(
    threads: UInt64 = 1, packNs: UInt64? = nil, nameNs: UInt64? = nil, destinationNs: UInt64? = nil
  ) {
    self.threads = max(threads, 1)
    (self.packNs, self.nameNs, self.destinationNs) = (packNs, nameNs, destinationNs)
  }

  /// Microseconds between two pages that the destination has, whatever the link does.
  public var knownUs: Double {
    max(Double(nameNs ?? 0) / Double(threads), Double(destinationNs ?? 0)) / 1000
  }

  /// What a page costs that one thread takes so long to pack.
  ///
  /// - Parameters:
  ///   - bytes: what it comes to on the wire.
  ///   - packNs: in nanoseconds; nil: not known.
  public func price(bytes: Double, packNs: UInt64?) -> PagePrice {
    PagePrice(bytes: bytes, us: Double(packNs ?? 0) / Double(threads) / 1000)
  }

  /// Which way of packing pages pays, as `EffortController` would find; nil: none, the link carries them sooner as they are.
  ///
  /// - Parameters:
  ///   - ways: what a page costs in each, by rising effort.
  ///   - bytesPerSecond: what the link carries.
  ///   - isChosen: pages are packed also where it doesn't pay.
  public static func choose(
    _ ways: [PagePrice], bytesPerSecond: Double, isChosen: Bool
  ) -> Int? {
    var best: (way: Int?, bytes: Double) = (nil, isChosen ? .infinity : GuestModel.rawBytes)
    for (index, way) in ways.enumerated() {
      let bytes = way.linkBytes(at: bytesPerSecond)
      // Beside one that pays, more effort must gain something.
      let most = best.way == nil ? best.bytes : best.bytes * Self.effortGain
      if bytes <= most { best = (index, bytes) }
    }
    return best.way
  }

  /// What more effort must bring the time of a page down to (`EffortController.gainMinPermille`).
  static let effortGain = 0.97
}

extension ProcessorCosts {
  /// An earlier move to the same destination, much of whose memory that had already.
  public struct Move: Sendable, Equatable {
    /// Pages that it made of what it had.
    public var knownPages: UInt64
    /// What all pages came to on the wire, in bytes.
    public var wireBytes: UInt64
    /// What the source's threads took, all together, in milliseconds.
    public var encodeMs: UInt64
    public var totalMs: UInt64

    public init(knownPages: UInt64, wireBytes: UInt64, encodeMs: UInt64, totalMs: UInt64) {
      (self.knownPages, self.wireBytes) = (knownPages, wireBytes)
      (self.encodeMs, self.totalMs) = (encodeMs, totalMs)
    }
  }

  /// Newest moves that are looked at.
  public static let movesMax = 8
  /// What a move may take more than link and source explain before the rest is put down to the destination.
  static let unexplained = 1.25

  /// Takes the destination's time from moves, newest first: the median of what is left of each beside the link's time for
  /// the pages that were sent. Where link or source explain it the destination was no slower, and counts as nothing.
  ///
  /// - Parameters:
  ///   - bytesPerSecond: what the link carries, today as then.
  ///   - fixedMs: of each move that no page took: its beginning, and the pause.
  public mutating func learn(from moves: [Move], bytesPerSecond: Double, fixedMs: Double) {
    let known = moves.prefix(Self.movesMax).filter { $0.knownPages > 0 }
    guard !known.isEmpty, bytesPerSecond > 0 else { return destinationNs = nil }
    let found = known.map { destinationNs($0, bytesPerSecond, fixedMs) }.sorted()
    let median = found[(found.count - 1) / 2]
    destinationNs = median > 0 ? UInt64(min(median, 1e15).rounded()) : nil
  }

  private func destinationNs(
    _ move: Move, _ bytesPerSecond: Double, _ fixedMs: Double
  ) -> Double {
    let pages = Double(move.knownPages)
    let otherBytes = max(Double(move.wireBytes) - pages * GuestModel.namedBytes, 0)
    let leftMs = Double(move.totalMs) - fixedMs - otherBytes / bytesPerSecond * 1000
    let linkNs = GuestModel.namedBytes / bytesPerSecond * 1e9
    let sourceNs = Double(move.encodeMs) / Double(threads) * 1e6 / pages
    let pageNs = leftMs * 1e6 / pages
    return pageNs > max(linkNs, sourceNs) * Self.unexplained ? pageNs : 0
  }
}
