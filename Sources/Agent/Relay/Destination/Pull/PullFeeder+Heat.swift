import HostIO
import Strategy
import Wire

extension PullFeeder {
  /// The source says which pages the guest has written most of late: of those that nobody waits for they are asked for
  /// first.
  func prefer(_ frame: PullHeat) throws(RelayFailure) {
    do throws(PullRefusal) {
      try directory.update { (directory) throws(PullRefusal) in
        for run in frame.runs {
          let pages = try directory.numbering.numbers(
            block: Int(frame.block), firstPage: run.lowerBound,
            count: run.upperBound - run.lowerBound)
          try directory.prefer(pages, heat: frame.heat)
        }
      }
    } catch {
      throw .protocolViolation("hot pages outside RAM: \(error)")
    }
  }
}
