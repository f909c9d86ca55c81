import Testing

@testable import HostIO

@Suite struct ProcessStatTests {
  private func line(_ state: String, threads: Int, name: String = "qemu-system-x86") -> String {
    "42 (\(name)) \(state) 1 42 42 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 \(threads) 0 777 1000 10 1"
  }

  @Test func fields() throws {
    let stat = try #require(ProcessStat(line("S", threads: 5)))
    #expect(stat.startTime == 777 && stat.parent == 1 && stat.threadCount == 5 && !stat.isDead)
    #expect(ProcessStat(line("R", threads: 1, name: "a) Z 9 (b"))?.startTime == 777)
    for bad in ["", "42 (x", "42 (x) S 1", line("S", threads: 1).replacing("777", with: "x")] {
      #expect(ProcessStat(bad) == nil)
    }
  }

  @Test func aZombieWhoseOtherThreadsRunIsNotDead() throws {
    #expect(try #require(ProcessStat(line("Z", threads: 1))).isDead)
    #expect(try #require(ProcessStat(line("Z", threads: 4))).isDead == false)
    #expect(try #require(ProcessStat(line("X", threads: 0))).isDead)
  }
}
