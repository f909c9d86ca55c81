import Base
import HostIO
import Strategy
import Wire

// A guest that moves before its memory: what the destination gets instead of the rest of QEMU's stream.
extension PagePicker {
  /// Names every page that the destination lacks or has an old copy of.
  ///
  /// Nothing is added to what is owed any more, for the guest has stopped and RAM's END is through.
  func sendInvalidPages(_ tracker: inout BarrierTracker) throws(RelayFailure) {
    let (numbering, owed) = ledger.state.read { state in
      (state.ledger?.numbering, state.ledger?.owedPages)
    }
    guard let numbering, let owed else {
      throw .protocolViolation("RAM's end before its beginning")
    }
    for (block, base) in numbering.bases.enumerated() {
      let isLastBlock = block == numbering.bases.count - 1
      let frames = InvalidPages.runs(of: owed, in: base..<base + numbering.counts[block])
      for (index, runs) in (frames.isEmpty ? [[]] : frames).enumerated() {
        let place = tracker.nextExclusivePlace()
        var payload: [UInt8] = []
        // The reader's limit on blocks is below 2^16.
        InvalidPages(
          place: place, block: UInt16(truncatingIfNeeded: block),
          isLast: isLastBlock && index >= frames.count - 1, runs: runs
        ).encode(into: &payload)
        queue.announce(place.sequence)
        try control.send(.invalidPages, payload)
      }
    }
  }

  /// Hands the guest over.
  func sendDeviceState(
    _ bytes: [UInt8], _ tracker: inout BarrierTracker
  ) throws(RelayFailure) {
    var start = 0
    repeat {
      let end = min(start + SequencedHeader.chunkMax, bytes.count)
      let place = tracker.nextExclusivePlace()
      var payload: [UInt8] = []
      DeviceStatePart(
        place: place, isLast: end == bytes.count, bytes: Array(bytes[start..<end])
      ).encode(into: &payload)
      queue.announce(place.sequence)
      try control.send(.deviceState, payload)
      start = end
    } while start < bytes.count
  }
}
