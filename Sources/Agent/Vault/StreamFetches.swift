import Base
import HostIO
import Wire

/// Pages that the thread which feeds QEMU's stream asked the source for, and waits for: it writes in order, so
/// there is one frame at a time.
final class StreamFetches: Sendable {
  private struct State {
    /// Whose pages; nil: nobody waits.
    var sequence: UInt64?
    var awaited: Set<PagePlace> = []
    var arrived: [PagePlace: [UInt8]] = [:]
    var isOver = false
  }

  private let state = Guarded(State())

  /// Nobody waits any more.
  func stop() { state.update { $0.isOver = true } }

  /// Puts pages that come from the source into `pages`.
  ///
  /// - Parameters:
  ///   - missing: pages of the frame by their places in `pages`.
  ///   - ask: sends the request.
  func fetch(
    _ missing: [(index: Int, place: PagePlace)], of sequence: UInt64, into pages: PageBuffer,
    ask: (PageRequestFrame) throws(RelayFailure) -> Void
  ) throws(RelayFailure) {
    let places = missing.map(\.place)
    state.update { state in
      (state.sequence, state.awaited, state.arrived) = (sequence, Set(places), [:])
    }
    try ask(PageRequestFrame(sequence: sequence, places: places))
    let outcome = state.wait { state -> [PagePlace: [UInt8]]?? in
      if state.isOver { return .some(nil) }
      guard state.awaited.isEmpty else { return nil }
      state.sequence = nil
      return state.arrived
    }
    guard let answer = outcome ?? nil else { throw .stopped }
    for (index, place) in missing {
      guard let bytes = answer[place] else { throw .stopped }
      pages.store(unsafe bytes.span.bytes, at: index * Page.size)
    }
  }

  /// Takes an answer; false when it is not for this thread.
  func arrived(_ answer: PageAnswerFrame) throws(RelayFailure) -> Bool {
    let verdict = state.update { state -> Bool? in
      guard state.sequence == answer.sequence else { return nil }
      for (index, place) in answer.places.enumerated() {
        guard state.awaited.remove(place) != nil else { return false }
        let start = index * Page.size
        state.arrived[place] = Array(answer.bytes[start..<start + Page.size])
      }
      return true
    }
    guard let isSound = verdict else { return false }
    guard isSound else { throw .protocolViolation("pages that were not asked for") }
    return true
  }
}
