import Base
import HostIO
import Wire

/// Sends pages again that the destination could not make of what it has, on a thread of its own: the thread that
/// reads the control lane must not wait for room on it.
final class PageAnswers: Sendable {
  /// Requests that wait; an honest destination asks once for each frame that may be on its way.
  private static let requestsMax = SendWindow.framesMax + SendQueue.depthMax
  /// Pages that wait, at most: no more can be missed than may be on their way.
  private let pagesMax: Int

  private struct State {
    var requests: [PageRequestFrame] = []
    /// Pages of these.
    var waiting = 0
    var isRunning = false
    var isOver = false
    var pages: UInt64 = 0
  }

  private let state = Guarded(State())
  private let control: ControlLane
  private let memory: @Sendable (Int) -> GuestPlace?
  private let thread = Guarded<WorkerThread?>(nil)
  private let onFailure: @Sendable (RelayFailure) -> Void

  /// - Parameters:
  ///   - pagesMax: pages that may be on their way.
  ///   - memory: guest memory by block number.
  init(
    control: ControlLane, pagesMax: Int, memory: @escaping @Sendable (Int) -> GuestPlace?,
    onFailure: @escaping @Sendable (RelayFailure) -> Void
  ) {
    (self.control, self.pagesMax) = (control, pagesMax)
    (self.memory, self.onFailure) = (memory, onFailure)
  }

  /// Pages that were sent again so far.
  var pages: UInt64 { state.read { $0.pages } }

  /// Takes a request in. The thread begins with the first.
  func asked(_ request: PageRequestFrame) throws(RelayFailure) {
    let (isTaken, isFirst) = state.update { state -> (Bool, Bool) in
      guard state.requests.count < Self.requestsMax,
        state.waiting + request.places.count <= pagesMax
      else { return (false, false) }
      state.requests.append(request)
      state.waiting += request.places.count
      defer { state.isRunning = true }
      return (true, !state.isRunning && !state.isOver)
    }
    guard isTaken else {
      throw .protocolViolation("more pages are asked for again than may be on their way")
    }
    guard isFirst else { return }
    let worker = WorkerThread("gw-answers") { [self] in
      do throws(RelayFailure) { try answerAll() } catch { onFailure(error) }
    }
    thread.update { $0 = worker }
  }

  func shutdown() { state.update { $0.isOver = true } }

  func join() { thread.update { $0 }?.join() }

  private func answerAll() throws(RelayFailure) {
    while true {
      let next = state.wait { state -> PageRequestFrame?? in
        if state.isOver { return .some(nil) }
        guard !state.requests.isEmpty else { return nil }
        let request = state.requests.removeFirst()
        state.waiting -= request.places.count
        return .some(request)
      }
      guard let request = next ?? nil else { return }
      let answer = PageAnswerFrame(
        sequence: request.sequence, places: request.places, bytes: try read(request.places))
      var payload: [UInt8] = []
      payload.reserveCapacity(PageAnswerFrame.byteCountMax)
      answer.encode(into: &payload)
      try control.send(.pageAnswer, payload)
      state.update { $0.pages += UInt64(request.places.count) }
    }
  }

  private func read(_ places: [PagePlace]) throws(RelayFailure) -> [UInt8] {
    let buffer = PageBuffer(byteCount: places.count * Page.size)
    for (index, place) in places.enumerated() {
      guard let memory = memory(Int(place.block)), place.page < memory.pageCount else {
        throw .protocolViolation("asked for page \(place.page) of block \(place.block)")
      }
      do {
        try unsafe memory.read(
          page: place.page, into: buffer.part(index * Page.size, Page.size))
      } catch {
        throw .memory("\(error)")
      }
    }
    return unsafe Array(buffer.part(0, buffer.byteCount))
  }
}
