/// Moves a served disk while clients use it.
protocol DiskMover: Sendable {
  /// What has to be known of the disk before clients begin to write.
  func prepare() async throws
  /// Copies until both sides are the same, which they stay; or until the time is over.
  func move() async throws -> MovedDisk
  /// Nobody writes any more: the destination keeps the disk as it is.
  func finish() async throws
}

/// How far a move came.
struct MovedDisk: Sendable {
  /// When both sides were the same, in microseconds of the monotonic clock, or it was given up.
  var endUs: UInt64
  /// Why it was given up; nil: it was not.
  var reason: String?
  /// As whoever moved it says: read from the device for it, and sent.
  var readBytes, wireBytes: UInt64?
  var rounds, backupBytes: UInt64?
}
