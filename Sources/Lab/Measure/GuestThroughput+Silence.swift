extension GuestThroughput {
  /// When the guest was silent between source and destination, in milliseconds since the migration's start: from its last
  /// beat on one side to its first on the other. Nil where nobody can tell.
  ///
  /// - Parameter lengthMs: of the silence. Results of earlier versions say no more of it: then it is where the guest did
  ///   the least in so long, the last such stretch.
  func silence(lengthMs: UInt64?) -> Range<UInt64>? {
    if let stoppedAtMs, let resumedAtMs {
      return stoppedAtMs < resumedAtMs ? stoppedAtMs..<resumedAtMs : nil
    }
    guard let lengthMs, bucketMs < 1 << 20 else { return nil }
    let count = Int(clamping: max(lengthMs / bucketMs, 1))
    guard count < timeline.count else { return nil }
    // As numbers that can't overflow.
    let work = timeline.map { Double($0) }
    var sum = work[..<count].reduce(0, +)
    var (least, at) = (sum, 0)
    for start in 1...(work.count - count) {
      sum += work[start + count - 1] - work[start - 1]
      if sum <= least { (least, at) = (sum, start) }
    }
    let from = UInt64(at) * bucketMs
    return from..<(from + UInt64(count) * bucketMs)
  }
}
