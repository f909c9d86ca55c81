import Base
import Compaction
import Synchronization
import Wire

/// Guests that leave this host together, for one destination: what one of them has brought there the others refer to.
final class Gang: Sendable {
  /// Guests of one gang.
  static let membersMax = 256

  /// What the destination knows the gang by. Whoever has it may refer to memory of the gang's guests there, so it is
  /// drawn by lot and told to nobody else.
  let token: MigrationID
  /// Of the hashes that contents are looked for by: drawn by lot, so that no guest can aim at them.
  let seed: UInt64
  private let state: Mutex<State>

  private struct State {
    var directory: GangDirectory
    var nextNumber: UInt16 = 0
  }

  /// - Parameter byteLimit: memory for what is remembered of pages that were sent.
  init(byteLimit: UInt64) {
    var random = SystemRandomNumberGenerator()
    token = MigrationID(using: &random)
    seed = random.next()
    state = Mutex(State(directory: GangDirectory(byteLimit: byteLimit)))
  }

  /// The next guest; nil when there are as many as there may be.
  func join() -> GangMember? {
    let number = state.withLock { state -> UInt16? in
      guard state.nextNumber < UInt16(Self.membersMax) else { return nil }
      defer { state.nextNumber += 1 }
      return state.nextNumber
    }
    return number.map { GangMember(gang: self, number: $0) }
  }

  func update<T: Sendable>(_ body: (inout GangDirectory) -> T) -> T {
    state.withLock { body(&$0.directory) }
  }
}

/// A guest's part in a gang, at the source.
struct GangMember: Sendable {
  let gang: Gang
  /// Of this guest among those of the gang.
  let number: UInt16

  /// What the destination is told.
  var role: PeerMessage.GangRole { .init(token: gang.token.description, member: number) }
}

/// The gangs whose guests leave this host.
final class OutgoingGangs: Sendable {
  /// How long a gang is remembered after its last migration ended: guests may leave one after the other.
  static let lingerMs: UInt64 = 300_000
  /// Gangs that are remembered at one time.
  static let gangsMax = 4
  /// Part of `memoryLimit` that one gang takes at most.
  static let memoryDivisor: UInt64 = 8

  private struct Key: Hashable { let name, destination: String }
  private struct Entry {
    let gang: Gang
    var running = 0
    /// When its last migration ended.
    var idleSinceMs: UInt64 = 0
  }

  private let gangs = Mutex<[Key: Entry]>([:])

  /// A migration to `destination` takes part in the gang `name`; nil: there are too many gangs or guests, and it goes
  /// alone.
  func join(_ name: String, destination: String, memoryLimit: UInt64, nowMs: UInt64) -> GangMember?
  {
    gangs.withLock { gangs in
      Self.forgetIdle(&gangs, nowMs)
      let key = Key(name: name, destination: destination)
      if gangs[key] == nil {
        if gangs.count >= Self.gangsMax {
          let idle = gangs.filter { $0.value.running == 0 }
          guard let oldest = idle.min(by: { $0.value.idleSinceMs < $1.value.idleSinceMs })?.key
          else { return nil }
          gangs[oldest] = nil
        }
        gangs[key] = Entry(gang: Gang(byteLimit: memoryLimit / Self.memoryDivisor))
      }
      guard let member = gangs[key]?.gang.join() else { return nil }
      gangs[key]?.running += 1
      return member
    }
  }

  /// The migration has ended.
  ///
  /// - Parameter hasArrived: the guest is at the destination, and others may go on referring to its memory.
  func leave(_ member: GangMember, hasArrived: Bool, nowMs: UInt64) {
    if !hasArrived { member.gang.update { $0.remove(member.number) } }
    gangs.withLock { gangs in
      guard let key = gangs.first(where: { $0.value.gang === member.gang })?.key else { return }
      gangs[key]?.running -= 1
      gangs[key]?.idleSinceMs = nowMs
    }
  }

  /// Lets go of gangs that nobody joined for a while.
  func forgetIdle(nowMs: UInt64) { gangs.withLock { Self.forgetIdle(&$0, nowMs) } }

  private static func forgetIdle(_ gangs: inout [Key: Entry], _ nowMs: UInt64) {
    gangs = gangs.filter { $0.value.running > 0 || nowMs < $0.value.idleSinceMs + lingerMs }
  }

  var count: Int { gangs.withLock { $0.count } }
}
