/// What only the source knows about a running migration, as the destination shows it.
struct PeerProgress: Codable, Sendable, Equatable {
  /// No honest number of bytes or milliseconds is larger; sums of a few still fit.
  static let numberMax: UInt64 = 1 << 56

  var phase: MigrationPhase
  var permille, ramBytes, remainingBytes, wireBytes, wireBytesPerSecond, iteration, retries: UInt64
  var etaMs, etaLowMs, etaHighMs, boundMs: UInt64?
  var dirtyBytesPerSecond, workingSetBytes, expectedDowntimeMs: UInt64?
  var laneCount: Int?
  var diskBytes, diskRemainingBytes: UInt64?

  init(_ progress: MigrationProgress) {
    (phase, permille) = (progress.phase, progress.progressPermille)
    (ramBytes, remainingBytes) = (progress.ramBytes, progress.remainingBytes)
    (diskBytes, diskRemainingBytes) = (progress.diskBytes, progress.diskRemainingBytes)
    (wireBytes, wireBytesPerSecond) = (progress.wireBytes, progress.wireBytesPerSecond)
    (iteration, retries, laneCount) = (progress.iteration, progress.retries, progress.laneCount)
    (etaMs, etaLowMs, etaHighMs) = (progress.etaMs, progress.etaLowMs, progress.etaHighMs)
    boundMs = progress.boundMs
    dirtyBytesPerSecond = progress.dirtyBytesPerSecond
    workingSetBytes = progress.workingSetBytes
    expectedDowntimeMs = progress.expectedDowntimeMs
  }

  /// With numbers that whoever shows them can calculate with; only this side knows of its last phases.
  var bounded: PeerProgress {
    func bound(_ value: UInt64) -> UInt64 { min(value, Self.numberMax) }
    var bounded = self
    (bounded.phase, bounded.permille) = (min(phase, .switchover), min(permille, 999))
    (bounded.ramBytes, bounded.remainingBytes) = (bound(ramBytes), bound(remainingBytes))
    (bounded.wireBytes, bounded.wireBytesPerSecond) = (bound(wireBytes), bound(wireBytesPerSecond))
    (bounded.iteration, bounded.retries) = (bound(iteration), bound(retries))
    (bounded.diskBytes, bounded.diskRemainingBytes) = (
      diskBytes.map(bound), diskRemainingBytes.map(bound)
    )
    bounded.laneCount = laneCount.map { max(0, min($0, PeerMessageLimits.laneCountMax)) }
    bounded.etaMs = etaMs.map(bound)
    (bounded.etaLowMs, bounded.etaHighMs) = (etaLowMs.map(bound), etaHighMs.map(bound))
    bounded.boundMs = boundMs.map(bound)
    bounded.dirtyBytesPerSecond = dirtyBytesPerSecond.map(bound)
    bounded.workingSetBytes = workingSetBytes.map(bound)
    bounded.expectedDowntimeMs = expectedDowntimeMs.map(bound)
    return bounded
  }

  /// Puts the source's view into the destination's. What is shown never runs backwards.
  func update(_ progress: inout MigrationProgress) {
    progress.phase = max(progress.phase, phase)
    progress.progressPermille = max(progress.progressPermille, permille)
    (progress.ramBytes, progress.remainingBytes) = (ramBytes, remainingBytes)
    (progress.diskBytes, progress.diskRemainingBytes) = (diskBytes, diskRemainingBytes)
    (progress.wireBytes, progress.wireBytesPerSecond) = (wireBytes, wireBytesPerSecond)
    (progress.iteration, progress.retries, progress.laneCount) = (iteration, retries, laneCount)
    (progress.etaMs, progress.etaLowMs, progress.etaHighMs) = (etaMs, etaLowMs, etaHighMs)
    progress.boundMs = boundMs
    progress.dirtyBytesPerSecond = dirtyBytesPerSecond
    progress.workingSetBytes = workingSetBytes
    progress.expectedDowntimeMs = expectedDowntimeMs
  }
}
