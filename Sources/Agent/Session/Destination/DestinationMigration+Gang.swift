import HostIO
import Logging
import QMP
import Wire

/// A guest's part in a gang, at the destination.
struct GangPart: Sendable {
  let key: GangGuests.Key
  /// The guest's memory here, as far as it can be read for the others, by block name.
  let places: [String: GuestPlace]

  /// Whose pages this guest's may be the same as.
  func held(_ guests: GangGuests) -> HeldGang { HeldGang(guests: guests, token: key.token) }
}

// Guests that come here together.
extension DestinationMigration {
  /// What the guest takes from its gang and gives to it; nil: it comes alone.
  func gangPart(
    _ request: PeerMessage.PrepareRequest, _ qemu: IncomingQEMU, mayPull: Bool
  ) async -> GangPart? {
    guard let role = request.gang, let token = MigrationID(role.token) else { return nil }
    let key = GangGuests.Key(token: token, member: role.member)
    guard gangs.expect(key) else {
      logger.warning("a guest of this gang with its number is here: it comes alone")
      return nil
    }
    // A page that QEMU waits for would keep its reader waiting.
    guard !mayPull else { return GangPart(key: key, places: [:]) }
    do {
      let memory = try await SampledMemory.open(qemu.monitor.client, qemu.identity)
      return GangPart(key: key, places: memory?.places ?? [:])
    } catch {
      logger.notice(
        "memory of the guest can't be read for its gang", metadata: ["error": "\(error)"])
      return GangPart(key: key, places: [:])
    }
  }

  /// The migration is over; a guest that has arrived can be referred to for a while.
  func leaveGang(_ undo: DestinationUndo, hasArrived: Bool) {
    guard let key = undo.gang?.key else { return }
    guard hasArrived, let identity = undo.qemu?.identity else { return gangs.remove(key) }
    gangs.hasArrived(key, nowMs: MonotonicClock.nowMs) {
      while !Task.isCancelled, identity.isAlive {
        if (try? await identity.waitForExit(timeoutMs: 10_000)) != nil { return }
        try? await Task.sleep(for: .seconds(1))
      }
    }
  }
}
