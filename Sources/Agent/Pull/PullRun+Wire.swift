import Strategy
import Wire

// The two words for the same: a directory's pages by number, a frame's by block.
extension PullRun.Kind {
  init(_ kind: PullRequest.Kind) {
    switch kind {
    case .ahead: self = .ahead
    case .urgent: self = .urgent
    case .identities: self = .identities
    }
  }
}

extension PullRequest {
  init(_ run: PullRun, _ numbering: PageNumbering) {
    let block = numbering.block(of: run.pages.lowerBound)
    let kind: Kind =
      switch run.kind {
      case .ahead: .ahead
      case .urgent: .urgent
      case .identities: .identities
      }
    self.init(
      block: UInt16(clamping: block), kind: kind,
      firstPage: UInt64(run.pages.lowerBound - numbering.bases[block]),
      count: UInt32(clamping: run.pages.count))
  }
}
