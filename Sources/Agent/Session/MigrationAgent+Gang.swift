import HostIO
import Logging
import Wire

extension MigrationAgent {
  /// The migration's part in the gang that it asks for; nil: it goes alone.
  nonisolated func joinGang(_ request: MigrationRequest) -> GangMember? {
    guard let name = request.gang else { return nil }
    let member = gangs.join(
      name, destination: request.destination, memoryLimit: configuration.memoryLimitBytes,
      nowMs: MonotonicClock.nowMs)
    if member == nil {
      logger.warning(
        "too many gangs, or guests in one: nothing is shared", metadata: ["gang": "\(name)"])
    }
    return member
  }

  nonisolated func leaveGang(_ member: GangMember, _ record: MigrationRecord) {
    gangs.leave(
      member, hasArrived: record.outcome == .completed, nowMs: MonotonicClock.nowMs)
    // What nobody needs any more isn't kept until the next migration.
    Task { [gangs] in
      try? await Task.sleep(for: .milliseconds(OutgoingGangs.lingerMs))
      gangs.forgetIdle(nowMs: MonotonicClock.nowMs)
    }
  }
}
