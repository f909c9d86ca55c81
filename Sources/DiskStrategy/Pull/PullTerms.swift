/// How much is fetched without the guest's asking, so that what it asks for stands behind little. Pure.
public enum PullTerms {
  /// Runs on the connection at once while the guest waits for nothing.
  public static let runsMax = 4
  /// For so long after a request that had to wait the next one is expected, in microseconds.
  static let expectedUs: UInt64 = 10_000
  /// Blocks of a run, and of one beside a guest that waits: 64 KiB.
  static let blocksMax = DiskGeometry.chunkBlockCount
  static let blocksBesideMax = 16

  /// What may be begun now, in blocks; 0: nothing.
  ///
  /// - Parameters:
  ///   - waiting: requests of the guest's that wait for the source.
  ///   - sinceUs: time since the last of them ended, in microseconds; nil: there was none.
  ///   - running: runs that are fetched without the guest's asking.
  public static func allowance(waiting: Int, sinceUs: UInt64?, running: Int) -> Int {
    let isExpected = waiting > 0 || (sinceUs.map { $0 < expectedUs } ?? false)
    // One, all the same: a guest that always waits for something must not keep the rest from ever coming.
    guard running < (isExpected ? 1 : runsMax) else { return 0 }
    return isExpected ? blocksBesideMax : blocksMax
  }
}
