import Base
import HostIO

/// What the mailbox brings while a word of the peer's is waited for.
extension SourceMigration {
  /// The next message of the peer's; everything that ends a migration throws.
  func nextMessage(timeoutMs: UInt64, waitingFor what: String) async throws -> PeerMessage {
    let message = try await nextWord(timeoutMs: timeoutMs, waitingFor: what)
    if let ending = Ending(message) { throw ending }
    return message
  }

  /// The same, and a message that ends the migration is returned as well.
  func nextWord(timeoutMs: UInt64, waitingFor what: String) async throws -> PeerMessage {
    let deadline = MonotonicClock.nowMs + timeoutMs
    while true {
      let now = MonotonicClock.nowMs
      guard now < deadline, let event = await mailbox.take(timeoutMs: deadline - now) else {
        throw Ending.failed(
          "\(request.destination) did not answer within \(Milliseconds.format(timeoutMs)) (\(what))"
        )
      }
      if case .peer(.message(let message)) = event { return message }
      try check(event)
    }
  }

  /// Throws when the event ends the migration.
  func check(_ event: Event) throws {
    switch event {
    case .peer(.ended(let failure)):
      throw Ending.failed(
        "connection to \(request.destination): \(failure?.description ?? "closed")")
    case .relay(.failed(let failure)): throw Ending.failed("\(failure)")
    case .qemuGone: throw Ending.sourceLost("the source's QEMU ended during the migration")
    case .cancel: throw Ending.cancelled
    case .pull(let event): notePull(event)
    case .peer(.message), .peer(.connection), .relay(.stream), .paused: break
    }
  }
}
