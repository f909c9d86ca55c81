import Base
import Strategy
import Wire

extension PullHeat {
  /// Classes of heat that are told apart, the hottest first, as the destination does (`HeatOrder`).
  private static let classes: [ClosedRange<UInt8>] = [4...8, 1...3]
  /// What is said in all, at most: 4 GiB of the guest's memory, and 768 KiB on the wire. It is of use for a guest's first
  /// moments.
  static let pagesInAll = 1 << 20
  static let runsInAll = 65_536

  /// What there is to say of a guest that has stopped: its owed pages, the hottest first.
  static func frames(of ledger: PageLedger) -> [PullHeat] {
    var frames: [PullHeat] = []
    var (pagesLeft, runsLeft) = (pagesInAll, runsInAll)
    for heat in classes {
      let runs = ledger.owedRuns(heat: heat, runsMax: runsLeft, pagesMax: pagesLeft)
      runsLeft -= runs.count
      pagesLeft -= runs.reduce(0) { $0 + $1.count }
      frames += cut(runs, heat.lowerBound, ledger.numbering)
    }
    return frames
  }

  /// Frames of one block each, within their limits.
  private static func cut(
    _ runs: [Range<Int>], _ heat: UInt8, _ numbering: PageNumbering
  ) -> [PullHeat] {
    var frames: [PullHeat] = []
    var (block, pages) = (0, 0 as UInt64)
    var gathered: [Range<UInt64>] = []
    func flush() {
      guard !gathered.isEmpty else { return }
      // The stream's blocks are below 2^16.
      frames.append(
        PullHeat(block: UInt16(truncatingIfNeeded: block), heat: heat, runs: gathered))
      (gathered, pages) = ([], 0)
    }
    for run in runs {
      let here = numbering.block(of: run.lowerBound)
      if here != block { flush() }
      block = here
      var first = UInt64(run.lowerBound - numbering.bases[block])
      let end = UInt64(run.upperBound - numbering.bases[block])
      while first < end {
        if pages == pagesMax || gathered.count == runsMax { flush() }
        let count = min(end - first, pagesMax - pages)
        gathered.append(first..<first + count)
        (first, pages) = (first + count, pages + count)
      }
    }
    flush()
    return frames
  }
}
