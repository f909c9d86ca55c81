import Base
import DiskStrategy
import Testing

@Suite struct OrderTests {
  private func map(_ blockCount: UInt64) throws -> BlockMap {
    BlockMap(try #require(DiskGeometry(byteCount: blockCount * 4096)))
  }

  @Test func roundsGoFromStartToEnd() throws {
    var (map, order) = (try map(192), CopyOrder())
    for expected in [0..<64, 64..<128, 128..<192] {
      let run = order.next(map, follows: false, nowUs: 0)
      #expect(run == expected)
      map.begin(expected)
    }
    #expect(order.next(map, follows: false, nowUs: 0) == nil && order.roundCount == 1)
    for run in [0..<64, 64..<128, 128..<192] { map.end(run, arrived: true) }
    map.note(70..<72)
    #expect(order.next(map, follows: false, nowUs: 0) == 70..<72)
    map.begin(70..<72)
    #expect(order.next(map, follows: false, nowUs: 0) == nil && order.roundCount == 2)
  }

  @Test func itGoesOnWhereTheGuestIs() throws {
    var (map, order) = (try map(100_000), CopyOrder())
    #expect(order.next(map, follows: true, nowUs: 0) == 0..<64)
    map.begin(0..<64)
    order.noteGuest(50_000..<50_010, nowUs: 1000)
    #expect(order.next(map, follows: true, nowUs: 2000) == 50_010..<50_048)
    map.begin(50_010..<50_048)
    #expect(order.next(map, follows: true, nowUs: 2000) == 50_048..<50_112)
    #expect(order.followedCount == 2)
    // Without following, or once the guest is idle, the sequence goes on.
    #expect(order.next(map, follows: false, nowUs: 2000) == 64..<128)
    map.begin(64..<128)
    #expect(order.next(map, follows: true, nowUs: 500_000) == 128..<192)
    // The guest turns round.
    order.noteGuest(60_000..<60_010, nowUs: 600_000)
    order.noteGuest(59_990..<60_000, nowUs: 601_000)
    #expect(order.next(map, follows: true, nowUs: 602_000) == 59_968..<59_990)
  }

  @Test func noFartherThanItsRegion() throws {
    var (map, order) = (try map(100_000), CopyOrder())
    for chunk in 0..<(80_000 / 64) {
      let run = (chunk * 64)..<(chunk * 64 + 64)
      map.begin(run)
      map.end(run, arrived: true)
    }
    order.noteGuest(100..<101, nowUs: 0)
    #expect(order.next(map, follows: true, nowUs: 10) == 80_000..<80_064)
    #expect(order.followedCount == 0)
  }

  @Test func aPaceIsKept() {
    var pace = SendPace(bytesPerSecond: 1_000_000)
    var (sent, nowUs): (UInt64, UInt64) = (0, 5_000_000)
    for _ in 0..<10_000 {
      if pace.mayGo(nowUs: nowUs) {
        pace.spend(4096)
        sent += 4096
      }
      nowUs += 1000
    }
    // Ten seconds, and a burst at most.
    #expect((9_900_000...10_200_000).contains(sent))
    var free = SendPace(bytesPerSecond: nil)
    let mayGo = free.mayGo(nowUs: 0)
    #expect(mayGo)
    var fast = SendPace(bytesPerSecond: .max)
    #expect(fast.mayGo(nowUs: 0) && fast.mayGo(nowUs: .max))
  }

  @Test func activePartsAreLoggedOnce() {
    var log = ActivityLog()
    let part = ActivityLog.partByteCount
    #expect(log.touch(0..<1) == .added)
    #expect(log.touch(1..<part) == .none)
    #expect(log.touch((part - 1)..<(part + 1)) == .added)
    #expect(log.touch(5..<5) == .none)
    #expect(log.parts == [0, 1])
    for index in 2..<UInt64(ActivityLog.capacity) {
      #expect(log.touch((index * part)..<(index * part + 1)) == .added)
    }
    // The first one was used again, so it stays.
    #expect(log.touch(0..<1) == .none)
    #expect(log.touch((5000 * part)..<(5000 * part + 1)) == .replaced)
    #expect(log.parts.contains(0) && !log.parts.contains(1) && log.parts.contains(5000))
    // More at once than fit.
    #expect(log.touch(0..<(part * 5000)) == .replaced)
    #expect(log.parts.count <= ActivityLog.capacity)
  }
}
