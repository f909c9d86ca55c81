import Base
import HostIO
import Testing
import Wire

@testable import Agent

/// Which migrations belong together, and for how long that is remembered.
@Suite(.timeLimit(.minutes(2))) struct OutgoingGangsTests {
  private func join(
    _ gangs: OutgoingGangs, _ name: String = "a", to destination: String = "host-b",
    nowMs: UInt64 = 1000
  ) -> GangMember? {
    gangs.join(name, destination: destination, memoryLimit: 256 << 20, nowMs: nowMs)
  }

  @Test func sameNameAndDestinationBelongTogether() throws {
    let gangs = OutgoingGangs()
    let first = try #require(join(gangs))
    let second = try #require(join(gangs))
    #expect(first.gang === second.gang && first.number == 0 && second.number == 1)
    let other = try #require(join(gangs, to: "host-c"))
    let third = try #require(join(gangs, "b"))
    #expect(other.gang !== first.gang && third.gang !== first.gang && other.number == 0)
    #expect(Set([first, other, third].map(\.role.token)).count == 3)
    #expect(MigrationID(first.role.token) == first.gang.token)
  }

  @Test func aGangIsRememberedForAWhile() throws {
    let gangs = OutgoingGangs()
    let first = try #require(join(gangs))
    let second = try #require(join(gangs))
    gangs.leave(first, hasArrived: true, nowMs: 2000)
    gangs.forgetIdle(nowMs: .max / 2)
    #expect(gangs.count == 1)
    gangs.leave(second, hasArrived: false, nowMs: 3000)
    gangs.forgetIdle(nowMs: 3000 + OutgoingGangs.lingerMs - 1)
    let third = try #require(join(gangs, nowMs: 3000 + OutgoingGangs.lingerMs - 1))
    #expect(third.gang === first.gang && third.number == 2)
    gangs.leave(third, hasArrived: true, nowMs: 4000)
    gangs.forgetIdle(nowMs: 4000 + OutgoingGangs.lingerMs)
    #expect(gangs.count == 0)
    #expect(try #require(join(gangs)).gang !== first.gang)
  }

  /// Those that nobody uses make way; those that run don't.
  @Test func thereAreNotManyAtATime() throws {
    let gangs = OutgoingGangs()
    var members: [GangMember] = []
    for number in 0..<OutgoingGangs.gangsMax {
      members.append(try #require(join(gangs, "gang-\(number)")))
    }
    #expect(join(gangs, "another") == nil)
    gangs.leave(members[2], hasArrived: true, nowMs: 2000)
    #expect(join(gangs, "another") != nil && gangs.count == OutgoingGangs.gangsMax)
    // One that was forgotten ends without harm.
    gangs.leave(members[2], hasArrived: false, nowMs: 2000)
  }

  @Test func aGangHasSoManyGuests() throws {
    let gangs = OutgoingGangs()
    for _ in 0..<Gang.membersMax { #expect(join(gangs) != nil) }
    #expect(join(gangs) == nil)
  }

  @Test func memoryOfAGuestIsLetGoOfWhenItsQEMUEnds() async throws {
    let guests = GangGuests()
    let key = GangGuests.Key(token: MigrationID(high: 1, low: 2), member: 0)
    #expect(guests.expect(key))
    #expect(guests.expect(.init(token: key.token, member: 1)))
    let (ends, end) = AsyncStream<Void>.makeStream()
    guests.hasArrived(key, nowMs: 1) { for await _ in ends {} }
    #expect(guests.count == 2)
    end.finish()
    while guests.count > 1 { try await Task.sleep(for: .milliseconds(5)) }
    // Nothing is waited for on behalf of a guest that was never here.
    guests.hasArrived(.init(token: key.token, member: 9), nowMs: 1) {}
    #expect(guests.count == 1)
  }

  /// The layout of a migration that is over comes late; a number belongs to the guest that came with it.
  @Test func aGuestThatNobodyExpectsIsNotKept() throws {
    let guests = GangGuests()
    let memory = try MemoryFile(byteCount: 4096, sealed: true)
    let place = GuestPlace.shared(
      try SharedFile(path: memory.path, offset: 0, length: 4096, writable: false))
    let key = GangGuests.Key(token: MigrationID(high: 1, low: 2), member: 0)
    let note = GangNote(
      member: 0, block: 0, page: 0, identity: [UInt8](repeating: 0, count: 32))
    let buffer = PageBuffer(byteCount: Page.size)
    func canBeRead() -> Bool {
      guests.read(note, of: key.token, into: buffer.part(0, Page.size))
    }
    guests.add(key, [place])
    #expect(guests.count == 0)
    #expect(guests.expect(key))
    #expect(!guests.expect(key) && !canBeRead())
    guests.add(key, [place])
    #expect(canBeRead())
    // The first layout counts.
    guests.add(key, [nil])
    #expect(canBeRead())
    guests.remove(key)
    guests.add(key, [place])
    #expect(guests.count == 0)
    // One that has arrived without ever saying where its memory is.
    #expect(guests.expect(key))
    guests.hasArrived(key, nowMs: 1) {}
    guests.add(key, [place])
    #expect(!canBeRead())
  }
}
