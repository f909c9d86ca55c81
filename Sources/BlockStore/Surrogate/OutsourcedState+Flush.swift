import DiskStrategy
import HostIO
import NBD

/// Flushing the log and the file that goes with it.
extension OutsourcedState {
  struct Flush: Sendable {
    /// nil: nothing has to be flushed there.
    let link: SurrogateLink?
    let file: MapFile?
    /// Records of the guest's data that the flush covers.
    let count: UInt64
  }

  mutating func beginFlush() -> Flush {
    index.beginFlush()
    defer { isUnsynced = false }
    return Flush(
      link: appendedCount > flushedCount || index.isFlushing ? link : nil,
      file: isUnsynced ? file : nil, count: appendedCount)
  }

  /// What the guest has to be told, whose flush it perhaps was.
  ///
  /// - Parameter generation: of the connection over which the log was flushed; nil: it wasn't.
  mutating func endFlush(
    _ flush: Flush, _ generation: UInt64?, _ problem: StoreError?, _ fileProblem: SystemError?
  ) -> StoreError? {
    let isNeeded = flush.count > flushedCount
    if isNeeded, problem != nil || generation != unflushedGeneration { hasLost = true }
    index.endFlush(problem == nil && fileProblem == nil && !hasLost)
    if fileProblem != nil { isUnsynced = true }
    if let problem { retreat("the surrogate failed a flush: \(problem)") }
    if hasLost {
      retreat("the surrogate's connection broke before a flush")
      return problem
        ?? StoreError(.inputOutput, "the surrogate is unreliable: writes before may be lost")
    }
    if let fileProblem { return StoreError(.inputOutput, "\(fileProblem)") }
    // Stale segments alone are no matter of the guest's.
    guard problem == nil else { return nil }
    flushedCount = max(flushedCount, flush.count)
    if appendedCount == flushedCount { unflushedGeneration = nil }
    return nil
  }

  /// The next server has to know how far to look.
  mutating func keepSegmentCount() {
    guard let file, file.segmentCount != UInt64(index.segmentsUsed) else { return }
    file.segmentCount = UInt64(index.segmentsUsed)
    isUnsynced = true
  }
}

extension MapFile {
  /// Segments of a surrogate's log that were ever written to.
  var segmentCount: UInt64 {
    get { record.word(at: 88) }
    set { record.set(newValue, at: 88) }
  }
}
