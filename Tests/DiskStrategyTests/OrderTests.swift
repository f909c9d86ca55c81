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

  /// What lies ahead of a guest that goes through the disk is left to it, as long as there is anything else; whatever order
  /// its clients are in.
  @Test(arguments: [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]]) func aSteadyGuestReadsItItself(
    clients: [Int]
  ) throws {
    var (map, order) = (try map(40_000), CopyOrder())
    var nowUs: UInt64 = 0
    func go(_ rounds: Range<Int>) {
      for round in rounds {
        for client in clients {
          let block = 10_000 + (round * 4 + client) * 16
          nowUs += 1000
          order.noteGuest(block..<(block + 16), nowUs: nowUs)
        }
      }
    }
    func next() throws -> Range<Int> {
      let found = order.next(map, follows: true, nowUs: nowUs, sparesAhead: true)
      let run = try #require(found)
      map.begin(run)
      map.end(run, arrived: true)
      return run
    }
    go(0..<1)
    // Nobody knows yet where it goes: its surroundings.
    let first = try next()
    #expect(abs(first.lowerBound - 10_000) < 1000)
    go(1..<12)
    for _ in 0..<4 {
      let run = try next()
      #expect(run.upperBound <= 1000)
    }
    // All of the rest comes before it, and past it.
    let (front, regionBlockCount) = (10_000 + 12 * 64, 16_384)
    let way = front..<(front + regionBlockCount - 64)
    while map.nextRun(from: 0)?.lowerBound ?? 10_000 < 10_000
      || map.nextRun(from: front + regionBlockCount) != nil
    {
      let run = try next()
      #expect(!way.contains(run.lowerBound))
    }
    #expect(order.roundCount == 0)
    // Then it is the copier's, too.
    while let run = order.next(map, follows: true, nowUs: nowUs, sparesAhead: true) {
      map.begin(run)
      map.end(run, arrived: true)
    }
    #expect(map.neededByteCount == 0 && order.roundCount > 0)
  }

  /// Requests all over the disk have no direction.
  @Test func aGuestWithoutADirectionIsFollowed() throws {
    var (map, order, random) = (try map(40_000), CopyOrder(), SplitMix64(seed: 5))
    for request in 1...500 as ClosedRange<UInt64> {
      let block = Int(random.next() % 30_000)
      order.noteGuest(block..<(block + 4), nowUs: request * 1000)
      if let run = order.next(map, follows: true, nowUs: request * 1000, sparesAhead: true) {
        map.begin(run)
      }
    }
    #expect(order.followedCount > 250)
    #expect(order.isGuestBusy(nowUs: 510_000) && !order.isGuestBusy(nowUs: 600_000))
  }

  /// Most of the link is for what waits in memory, in bytes, and some of it always for the copier.
  @Test func turnsAreCountedInBytes() {
    var turns = SendTurns()
    #expect(!turns.isForForwarded)
    turns.noteCopied(256)
    var runs = 0
    while turns.isForForwarded, runs < 100 {
      turns.noteForwarded(64)
      runs += 1
    }
    #expect(runs == 12)
    turns.noteCopied(.max)
    turns.noteForwarded(1 << 20)
    #expect(turns.isForForwarded)
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
