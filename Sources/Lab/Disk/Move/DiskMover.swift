/// Moves a served disk while clients use it.
protocol DiskMover: Sendable {
  /// What has to be known of the disk before clients begin to write.
  func prepare() async throws
  /// Copies until both sides are the same, which they stay, or the destination has everything and its clients; or until
  /// the time is over.
  func move(_ client: DiskClient) async throws -> MovedDisk
  /// Nobody writes any more: the destination keeps the disk as it is. Of a control: the image is the whole disk again.
  func finish() async throws
  /// Whoever has the disk at the source in the place of its server, which the move has ended; nil: its server still has it.
  var successor: DiskProcess? { get async }
  /// Ends what the move itself has started.
  func end() async
}

extension DiskMover {
  var successor: DiskProcess? { get async { nil } }
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
  /// When the original had been copied and what the surrogate had was left, in microseconds of the monotonic clock.
  var originalUs: UInt64?
  /// What an older copy had already.
  var skippedBytes: UInt64?
  /// Of a pull.
  var served: Served?

  /// How a disk was served before its data were there.
  struct Served: Sendable {
    /// From when on, in microseconds of the monotonic clock.
    var fromUs: UInt64
    /// Requests that waited for the source, and how long, in microseconds.
    var faults: UInt64
    var faultMeanUs, faultMaxUs: UInt64?
  }
}
