import Base

/// The closed loop of TLM that gives the vCPUs only as much running time as the link keeps up with. Pure.
///
/// With S dirty pages sent and G dirtied in the last epoch: if they differ by more than `tolerance`, the
/// running time B becomes B × S / mean(G), within bounds; few dirtied pages give it all back.
struct FreezeLoop: Sendable, Equatable {
  /// Pages by which S and G may differ, and that G may have, without a change.
  static let tolerance: UInt64 = 500

  let quotaLeast: UInt64
  /// Running time in thousandths of the epoch, `quotaLeast...1000`.
  private(set) var runPermille: UInt64 = 1000
  private var dirtiedSum: UInt64 = 0
  private var epochCount: UInt64 = 0
  private var sentBefore: UInt64 = 0
  private var freshBefore: UInt64?

  init(quotaLeast: UInt64) { self.quotaLeast = quotaLeast }

  var limit: CPULimit { runPermille >= 1000 ? .none : .quota(permille: runPermille) }

  mutating func note(_ epoch: EpochReport, _ sample: EngineSample) {
    dirtiedSum = dirtiedSum.addingSaturating(epoch.dirtiedPages)
    epochCount += 1
    let leftScan = (freshBefore ?? sample.freshPages).minusFloored(sample.freshPages)
    // What was dirtied before the scan came to it left the scan, too, and wasn't sent by it.
    let scanned = leftScan.minusFloored(epoch.firstDirtiedPages)
    let sent = sample.sentPages.minusFloored(sentBefore).minusFloored(scanned)
    let isFirst = freshBefore == nil
    (sentBefore, freshBefore) = (sample.sentPages, sample.freshPages)
    guard !isFirst else { return }
    guard epoch.dirtiedPages > Self.tolerance else { return runPermille = 1000 }
    let difference = max(sent, epoch.dirtiedPages) - min(sent, epoch.dirtiedPages)
    guard difference > Self.tolerance else { return }
    let mean = max(dirtiedSum / epochCount, 1)
    runPermille = min(max(runPermille.scaled(by: sent, over: mean), quotaLeast), 1000)
  }
}
