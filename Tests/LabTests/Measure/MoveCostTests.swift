import Agent
import Glibc
import HostIO
import Testing

@testable import Lab

@Suite struct MoveCostTests {
  @Test func timesOutOfAStatFile() throws {
    let stat = "77 (CPU 0/TCG (x)) S 1 77 77 0 -1 4194304 1 2 3 4 250 31 0 0 20 0 5 0 9 10 11"
    let time = try #require(ProcessTime.parse(stat))
    #expect(time.name == "CPU 0/TCG (x)" && time.ticks == 281)
  }

  @Test(arguments: ["", "1 x S 1", "1 (x) S 1 2", "(", ")(", "1 (x) S 1 2 3 4 5 6 7 8 9 10 a b"])
  func noTimes(text: String) { #expect(ProcessTime.parse(text) == nil) }

  @Test func aProcessThatIsGoneHasNoTime() {
    #expect(ProcessTime.workMs(of: getpid()) != nil)
    #expect(ProcessTime.workMs(of: Int32.max) == nil)
  }

  @Test func memoryOfItsOwn() throws {
    let status = "VmHWM:\t  900 kB\nVmRSS:\t  800 kB\nRssAnon:\t    120 kB\nRssShmem:\t  600 kB\n"
    #expect(ProcessMemory.parse(status) == 120 << 10)
    #expect(ProcessMemory.parse("Name:\tx\n") == nil && ProcessMemory.parse("RssAnon:\n") == nil)
    #expect(try #require(ProcessMemory.ownBytes(of: getpid())) > 1 << 20)
    #expect(ProcessMemory.ownBytes(of: Int32.max) == nil)
  }

  @Test func whatIsNotKnownIsNotZero() {
    var cost = MoveCost()
    cost.sourceQEMUMs = 5
    #expect(cost.processorMs == nil && cost.agentPeakBytes == nil)
    cost.destinationQEMUMs = 7
    #expect(cost.processorMs == 12)
    (cost.sourceAgentMs, cost.destinationAgentMs) = (100, 200)
    #expect(cost.processorMs == 312)
    // Of a disk alone.
    var servers = MoveCost()
    servers.sourceServerMs = 30
    #expect(servers.processorMs == nil)
    servers.destinationServerMs = 20
    #expect(servers.processorMs == 50)
  }

  /// Guests together: what is of all of them is counted once, and only when all were moved.
  @Test func together() {
    var trials = (0..<3).map { _ in Trial(record: .init(outcome: .completed)) }
    // Controls are watched, and have no end of a move.
    Together.share(&trials, lengthMs: 900, wireBytes: 5)
    #expect(trials.allSatisfy { $0.together != nil && $0.together?.totalMs == nil })
    for index in trials.indices { trials[index].record.totalMs = 800 }
    Together.share(&trials, lengthMs: 900, wireBytes: 5)
    #expect(trials.map(\.together?.member) == [0, 1, 2])
    #expect(trials.allSatisfy { $0.together?.totalMs == 900 && $0.record.wireBytes == nil })
    trials[1].record.outcome = .failed
    Together.share(&trials, lengthMs: 900, wireBytes: 5)
    #expect(trials.allSatisfy { $0.together?.totalMs == nil })
    var alone = [Trial(record: .init(outcome: .completed))]
    Together.share(&alone, lengthMs: 900, wireBytes: 5)
    #expect(alone[0].together == nil && alone[0].record.wireBytes == 5)

    let results = trials.map { trial in
      MatrixResultTests.result("qemu-precopy") { $0.lab.together = trial.together }
    }
    #expect(results.map(MatrixFigure.together.value) == [.infinity, nil, nil])
    #expect(results.map(MatrixFigure.total.value) == [5000, 5000, 5000])

    // One round is one sample, however many guests there were.
    let round = results.enumerated().map { index, result in
      var result = result
      result.lab.block += "#\(index)"
      result.record.totalMs = [4000, 9000, 5000][index]
      return result
    }
    let total = MatrixComparison(round)?.estimate(.total, "qemu-precopy")
    #expect(total?.median == 5000 && total?.count == 1 && total?.low == nil)
    let ratio = MatrixComparison(round)?.ratio(.total, "qemu-precopy", to: "qemu-precopy")
    #expect(ratio?.median == 1 && ratio?.count == 1)
  }

  /// A file of an earlier version lacks what was measured later.
  @Test func olderFilesAreRead() throws {
    let result = MatrixResultTests.result("qemu-precopy")
    let line = try JSONLine.encode(result)
    let older = line.replacing("\"cost\":null,", with: "").replacing("\"together\":null,", with: "")
    #expect(older.count < line.count - 25)
    #expect(try JSONLine.decode(MatrixResult.self, from: older.utf8) == result)
  }
}
