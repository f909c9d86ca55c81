import Agent
import Testing

@testable import Lab

@Suite struct MatrixComparisonTests {
  private typealias Results = MatrixResultTests

  /// Three rounds on a machine that gets slower; Godwit needs 0.8 of post-copy's time in each.
  private var results: [MatrixResult] {
    [4000, 6000, 9000].enumerated().flatMap { round, ms -> [MatrixResult] in
      [
        Results.result("qemu-precopy", round: round, totalMs: nil),
        Results.result("qemu-postcopy", round: round, totalMs: UInt64(ms)),
        Results.result("qemu-xbzrle", round: round, totalMs: UInt64(ms) + 500),
        Results.result("godwit-timebound", round: round, totalMs: UInt64(ms) * 8 / 10),
      ]
    }
  }

  @Test func theBestRivalIsOneThatWasDone() throws {
    let comparison = try #require(MatrixComparison.all(results).first)
    #expect(comparison.bestRival(.total) == "qemu-postcopy")
    #expect(comparison.doneCount("qemu-precopy") == (0, 3))
    #expect(comparison.estimate(.total, "qemu-precopy")?.median == .infinity)
    #expect(comparison.estimate(.total, "qemu-postcopy")?.median == 6000)
  }

  @Test func bothSidesAreNamedWhereTheyDiffer() throws {
    let results = [
      Results.result("qemu-precopy"),
      Results.result("qemu-precopy") {
        $0.lab.qemu = "installed -> newest"
        $0.record.qemu = .init(source: "7.2.22", destination: "10.0.2")
      },
    ]
    #expect(MatrixComparison.all(results).map(\.qemu) == ["7.2.22 to 10.0.2", "10.0.2"])
  }

  /// The times differ by more than two between rounds, the ratios do not.
  @Test func ratiosAreTakenWithinARound() throws {
    let comparison = try #require(MatrixComparison.all(results).first)
    let ratio = try #require(comparison.ratio(.total, "godwit-timebound", to: "qemu-postcopy"))
    #expect(ratio.median == 0.8 && ratio.low == 0.8 && ratio.high == 0.8)
    // A rival that was not done is nothing to compare with; a method that was not done is worse.
    #expect(comparison.ratio(.total, "godwit-timebound", to: "qemu-precopy") == nil)
    #expect(comparison.ratio(.total, "qemu-precopy", to: "qemu-postcopy")?.median == .infinity)
  }

  /// What compaction costs where it can't help.
  @Test func whatWasMeasuredWithoutCompactionIsComparedWithThat() throws {
    let plain = [5000, 6000, 7000].enumerated().flatMap { round, ms in
      [
        Results.result("godwit-auto+plain", round: round, totalMs: UInt64(ms)),
        Results.result("godwit-auto", round: round, totalMs: UInt64(ms) * 101 / 100),
        Results.result("qemu-multifd+plain", round: round, totalMs: 9000),
      ]
    }
    let comparison = try #require(MatrixComparison.all(results + plain).first)
    #expect(comparison.plain(of: "godwit-auto") == "godwit-auto+plain")
    for other in ["godwit-auto+plain", "godwit-timebound", "qemu-multifd", "qemu-postcopy"] {
      #expect(comparison.plain(of: other) == nil)
    }
    let table = try #require(ReportTable.plainRatios(comparison))
    #expect(table.rows.map(\.name) == ["godwit-auto"])
    let total = try #require(table.header.firstIndex(of: "total"))
    #expect(table.rows.first?.cells[total - 1].text == "1.01 [1.01, 1.01]")
    #expect(MatrixTable.lines(results + plain).contains("  \(table.title)"))
    // Nothing without such a pair.
    let without = try #require(MatrixComparison.all(results).first)
    #expect(ReportTable.plainRatios(without) == nil)
    #expect(!MatrixTable.lines(results).contains("  \(table.title)"))
  }

  @Test func whatIsMissingInARoundIsLeftOut() throws {
    let part = results.filter { $0.lab.round != 1 || $0.lab.method != "qemu-postcopy" }
    let comparison = try #require(MatrixComparison.all(part).first)
    #expect(comparison.ratio(.total, "godwit-timebound", to: "qemu-postcopy")?.count == 2)
  }

  @Test func figures() {
    let throughput = { (back: UInt64?) -> GuestThroughput in
      var log = HeartbeatLog()
      log.receive(Array("HB 0 0 0 0 0 0 0 0\nHB 1 0 0 0 0 50 0 0\n".utf8), from: .source, atUs: 0)
      log.receive(Array("HB 2 0 0 0 0 100 0 0\n".utf8), from: .source, atUs: 1_000_000)
      var found = GuestThroughput(
        log, .init(calmFromUs: 0, startUs: 500_000, endUs: 900_000, untilUs: 1_000_000),
        moved: false)
      found?.recoveryMs = back
      return found!
    }
    let back = Results.result("qemu-xbzrle") { $0.lab.throughput = throughput(40) }
    let unheard = Results.result("qemu-xbzrle") { $0.lab.throughput = throughput(nil) }
    var never = unheard
    never.lab.heartbeatGapMs = 70
    #expect(MatrixFigure.back.value(back) == 40)
    #expect(MatrixFigure.back.value(never) == .infinity)
    #expect(MatrixFigure.back.value(unheard) == nil)
    #expect(MatrixFigure.back.value(Results.result("qemu-xbzrle")) == nil)
    let gap = Results.result("qemu-xbzrle") { $0.lab.heartbeatGapMs = 70 }
    #expect(MatrixFigure.gap.value(gap) == 70)
    #expect(MatrixFigure.wire.value(Results.result("godwit-x", totalMs: nil)) == .infinity)
  }

  @Test func whatTheGuestReallyWroteIsSaid() {
    func title(_ written: UInt64) -> String? {
      let result = Results.result("qemu-xbzrle") {
        $0.lab.dirtyMiBPerSecond = 100
        $0.lab.dirtyBytesPerSecond = written
      }
      return MatrixTable.lines([result]).first
    }
    #expect(title(104_857_600) == "g, QEMU 10.0.2: wrote 100 MiB/s, 0.84 x the link")
    #expect(title(52_428_800)?.hasSuffix("0.42 x the link, LESS THAN ASKED (100 MiB/s)") == true)
    let idle = Results.result("qemu-xbzrle") {
      ($0.lab.dirtyMiBPerSecond, $0.lab.dirtyBytesPerSecond) = (0, 0)
    }
    #expect(MatrixTable.lines([idle]).first == "g, QEMU 10.0.2")
  }

  @Test func theTable() {
    let lines = MatrixTable.lines(results)
    #expect(lines.first == "g, QEMU 10.0.2")
    #expect(
      lines.contains {
        $0.contains("qemu-precopy") && $0.contains("0 of 3") && $0.contains("never")
      })
    #expect(lines.contains { $0.contains("qemu-postcopy") && $0.contains("6 s [4 s, 9 s]") })
    #expect(lines.contains { $0.contains("TOTAL TO POSTCOPY") })
    #expect(lines.contains { $0.contains("godwit-timebound") && $0.contains("0.80 [0.80, 0.80]") })
    #expect(MatrixTable.lines([]) == [])
    let hurt = MatrixTable.lines([Results.result("godwit-x") { $0.lab.damage = ["3 errors"] }])
    #expect(hurt.last == "0/g/newest/godwit-x: NOT INTACT: 3 errors")
    #expect(MatrixTable.hundredths(0.8) == "0.80" && MatrixTable.hundredths(12.046) == "12.05")
  }
}
