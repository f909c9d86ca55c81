import HostIO
import Logging

// Between the two sides: whether the guest shall run where it arrives.
extension SourceMigration {
  /// A guest that its operator has paused while it was copied arrives paused, and one that went on meanwhile runs: both
  /// sides write that down before the commit, so that whoever carries it out, after a crash too, does the same.
  ///
  /// Takes a round trip where something has changed, and nothing otherwise.
  func agreeOnRunState(_ setup: Setup, _ copy: Copy, _ undo: SourceUndo) async throws {
    let isRunning = state.read { $0.guestRan } ?? undo.guestWasRunning
    if isRunning != undo.guestWasRunning { try await copy.journal.append(.guestRan(isRunning)) }
    guard isRunning != setup.facts.isRunning else { return }
    logger.info("the guest's run state changed", metadata: ["isRunning": "\(isRunning)"])
    try setup.link.send(.runState(isRunning: isRunning))
    try await awaitRunStateNoted()
  }

  private func awaitRunStateNoted() async throws {
    let deadline = MonotonicClock.nowMs + Self.commitTimeoutMs
    while true {
      let now = MonotonicClock.nowMs
      guard now < deadline, let event = await mailbox.take(timeoutMs: deadline - now) else {
        throw Ending.failed("\(request.destination) did not note the guest's run state in time")
      }
      switch event {
      case .peer(.message(.runStateNoted)): return
      case .peer(.message(let message)):
        throw Ending(message)
          ?? .failed("\(request.destination) answered the guest's run state with something else")
      case .peer(.ended), .cancel, .pull: try check(event)
      // A QEMU that dies now has nothing any more that the destination lacks: what follows finds out.
      case .peer(.connection), .relay, .paused, .qemuGone: break
      }
    }
  }
}
