import Compaction

/// Holds pulled pages against the digests that the source took of the stopped guest, in whichever order
/// the two come. Pure.
///
/// Memory: some 50 bytes per pulled page, in audits only.
struct PullAudit: Sendable {
  private var waiting: [Int: PageFingerprint] = [:]
  private(set) var comparedCount: UInt64 = 0
  private(set) var differingCount: UInt64 = 0
  /// The source has named every digest.
  var isComplete = false

  /// One side's digest of a page, by number; each side names a page once.
  mutating func note(_ page: Int, _ digest: PageFingerprint) {
    guard let other = waiting.removeValue(forKey: page) else {
      waiting[page] = digest
      return
    }
    comparedCount += 1
    if digest != other { differingCount += 1 }
  }
}
