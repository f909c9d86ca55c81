import ArgumentParser
import Foundation
import Simulator
import Strategy
import Testing

@testable import Agent
@testable import CLI

@Suite struct PlanCommandTests {
  private let path = "/tmp/godwit-plan-\(UUID().uuidString.prefix(8)).sock"

  private func planned(
    _ change: (inout PlanReport) -> Void = { _ in }, _ arguments: String...
  ) throws -> (PlanReport, PlannedForecast) {
    var report = try JSONLine.decode(PlanReport.self, from: ScriptedAgent.planned.utf8)
    change(&report)
    let command = try #require(
      try GodwitCommand.parseAsRoot(["plan", "web-1", "b", "--runs", "4"] + arguments)
        as? PlanCommand)
    let forecast = try PlannedForecast(
      report, command.request, strategies: [.precopy, .hotpages, .auto], runs: command.runs, seed: 1
    )
    return (report, forecast)
  }

  /// Of a guest with 1 GiB.
  private static func point(windowMs: UInt64, found: UInt64, of sampled: UInt64)
    -> GuestSample.Point
  {
    let estimate = PageEstimate(found: found, of: sampled, ramPages: 262_144)
    return GuestSample.Point(DirtyCurve.Point(windowMs: windowMs, estimate))
  }

  @Test func aTableAndWhatItRestsOn() throws {
    let (report, forecast) = try planned()
    let text = forecast.lines.joined(separator: "\n")
    for part in [
      "web-1: 1 GiB, 25 % zero; dirties", "round trip 0.4 ms", "STRATEGY", "hotpages",
      "auto would take", "16384 of 262144 pages looked at (shared)",
    ] { #expect(text.contains(part), "\(part) in \(text)") }
    #expect(!forecast.isRefused)
    let rows = forecast.forecast.rows
    #expect(rows.map(\.strategy) == [.precopy, .hotpages, .auto])
    // Three quarters of 1 GiB at 110 MB/s are 7.3 s.
    for row in rows { #expect((6500...12_000).contains(try #require(row.totalMs).median)) }
    let line = try JSONLine.encode(PlanAnswer(report, forecast))
    for part in [
      #""outcome":"forecast""#, #""autoTakes":""#, #""roundTripUs":400"#, #""windowMs":4000"#,
      #""meetsConstraints":"#, #""zeroPages":{"#,
    ] { #expect(line.contains(part), "\(part) in \(line)") }
  }

  /// Half of the guest at the destination already: references in its place.
  @Test func whatTheDestinationHasIsNotSent() throws {
    func pages(_ pages: UInt64) -> GuestSample.Pages {
      .init(PageEstimate(found: pages, of: 262_144, ramPages: 262_144))
    }
    let (_, plain) = try planned { $0.guest?.packedPermille = 1000 }
    let (report, known) = try planned {
      $0.guest?.packedPermille = 1000
      $0.guest?.known = .init(snapshot: pages(40_000), disk: pages(80_000), vault: pages(11_072))
    }
    for (less, more) in zip(known.forecast.rows, plain.forecast.rows) {
      let (few, all) = try (#require(less.wireBytes), #require(more.wireBytes))
      #expect(few.median < all.median / 2, "\(less.strategy)")
      let (short, long) = try (#require(less.totalMs), #require(more.totalMs))
      #expect(short.median < long.median / 2, "\(less.strategy)")
    }
    let text = known.lines.joined(separator: "\n")
    #expect(text.contains("25 % zero, the destination already has 50 %, the rest packs to 100 %"))
    #expect(text.contains("31 % in images, 15 % kept at the same place and 4 % kept elsewhere"))
    let line = try JSONLine.encode(PlanAnswer(report, known))
    #expect(line.contains(#""known":{"#) && line.contains(#""disk":{"#), "\(line)")
    // Where it doesn't say, the forecast says that.
    let lines = plain.lines.joined(separator: "\n")
    #expect(lines.contains("are counted as sent") && !lines.contains("already has"))
    let (other, _) = try planned()
    #expect(try JSONLine.encode(PlanAnswer(other, plain)).contains(#""known":null"#))
  }

  /// What the destination has costs the link little, and processors as much as they take.
  @Test func whatProcessorsTakeCounts() throws {
    func pages(_ pages: UInt64) -> GuestSample.Pages {
      .init(PageEstimate(found: pages, of: 262_144, ramPages: 262_144))
    }
    func change(_ report: inout PlanReport, nameNs: UInt64?) {
      report.guest?.packedPermille = 500
      report.guest?.known = .init(
        snapshot: pages(40_000), disk: pages(80_000), vault: pages(11_072))
      report.guest?.processors = .init(threads: 2, packPageNs: 7500, namePageNs: nameNs)
    }
    let (_, quick) = try planned { change(&$0, nameNs: nil) }
    // 131,072 pages of 100 µs, two at a time, are 6.5 s.
    let (report, slow) = try planned { change(&$0, nameNs: 100_000) }
    for (strategy, total) in quick.modelTotals {
      let longer = try #require(slow.modelTotals[strategy])
      #expect((5000...8500).contains(longer - total), "\(strategy): \(total), \(longer)")
    }
    let text = slow.lines.joined(separator: "\n")
    #expect(
      text.contains("each of 2 threads here packs a page in 7.5 µs, and names one in 100.0 µs"))
    #expect(text.contains("is not known from earlier moves"))
    let line = try JSONLine.encode(PlanAnswer(report, slow))
    #expect(line.contains(#""packPageNs":7500"#) && line.contains(#""destinationPageNs":null"#))
    // The destination is slower still, as a move to it showed.
    var record = MigrationRecord(outcome: .completed)
    (record.pages.disk, record.pages.raw) = (100_000, 1000)
    (record.wireBytes, record.encodeMs, record.totalMs) = (10_000_000, 900, 15_300)
    let past = try #require(PastKnownMove(record))
    let (later, learned) = try planned {
      change(&$0, nameNs: 100_000)
      $0.earlierKnown = [past]
    }
    // 15 s less 44 ms of the link's for 100,000 pages.
    #expect((149_000...150_000).contains(try #require(learned.costs.destinationNs)))
    for (strategy, total) in learned.modelTotals {
      #expect(total > (try #require(slow.modelTotals[strategy])) + 9000, "\(strategy)")
    }
    #expect(try JSONLine.encode(PlanAnswer(later, learned)).contains(#""destinationPageNs":149"#))
    #expect(learned.lines.joined().contains("as earlier moves show"))
  }

  /// On a link that carries pages sooner than they are packed they go as they are.
  @Test func packingHasToPay() throws {
    let (_, packed) = try planned { $0.guest?.packedPermille = 500 }
    let (_, raw) = try planned {
      $0.guest?.packedPermille = 500
      $0.guest?.processors = .init(threads: 1, packPageNs: 50_000, namePageNs: nil)
    }
    let (small, large) = try (
      #require(packed.forecast.rows[0].wireBytes), #require(raw.forecast.rows[0].wireBytes)
    )
    #expect(large.median > small.median * 1.8)
    #expect(raw.lines.joined().contains("no page is packed: the link carries them sooner"))
    // Who is told to packs all the same, and waits for it: 196,608 pages of 50 µs.
    var request = MigrationRequest(vm: "web-1", destination: "b")
    request.compaction = .lz4
    let chosen = try PlannedForecast(raw.report, request, strategies: [.precopy], runs: 4, seed: 1)
    #expect(try #require(chosen.modelTotals[.precopy]) > 9500)
  }

  /// What the guest writes costs what it does, and a slow link has time for zstd.
  @Test func whatIsWrittenHasItsOwnPrice() throws {
    func change(_ report: inout PlanReport) {
      report.guest?.packedPermille = 500
      report.guest?.processors = .init(threads: 2, packPageNs: 7500, namePageNs: nil)
    }
    func written(_ report: inout PlanReport, again: UInt64) {
      change(&report)
      // So much that what is written again weighs.
      report.guest?.dirtyCurve = [1000, 2000, 4000].map { ms in
        Self.point(windowMs: ms, found: ms * 16, of: 262_144)
      }
      report.guest?.written = .init(
        sampledPages: 100, lz4: .init(permille: 500, pageNs: 7500),
        zstd: .init(permille: 400, pageNs: 15_000),
        againLZ4: .init(permille: again, pageNs: 7500), againZstd: nil)
    }
    let (_, dear) = try planned { written(&$0, again: 500) }
    let (report, cheap) = try planned { written(&$0, again: 10) }
    // Pre-copy sends the busy part again and again.
    let (more, less) = try (
      #require(dear.forecast.rows[0].wireBytes), #require(cheap.forecast.rows[0].wireBytes)
    )
    #expect(less.median < more.median * 0.9, "\(less), \(more)")
    #expect(
      cheap.lines.joined().contains("goes on writing costs 50 %, and 1 % once it was sent before"))
    let line = try JSONLine.encode(PlanAnswer(report, cheap))
    #expect(line.contains(#""written":{"#) && line.contains(#""againZstd":null"#), "\(line)")
    // No differences are made of what comes out of QEMU's stream.
    var request = MigrationRequest(vm: "web-1", destination: "b")
    request.pageSource = .inline
    let inline = try PlannedForecast(report, request, strategies: [.precopy], runs: 1, seed: 1)
    #expect(!inline.lines.joined().contains("once it was sent before"))

    let zstd: (inout PlanReport) -> Void = {
      change(&$0)
      $0.guest?.zstd = .init(permille: 400, pageNs: 40_000)
    }
    let (_, slow) = try planned(zstd, "--bandwidth", "20MB/s")
    let (fast, _) = try planned(zstd)
    #expect(slow.lines.joined().contains("costs 40 % of its size, as zstd packs it"))
    request.pageSource = .auto
    let quick = try PlannedForecast(fast, request, strategies: [.precopy], runs: 1, seed: 1)
    #expect(quick.lines.joined().contains("costs 50 % of its size, as LZ4 packs it"))
    request.compaction = .zstd
    let chosen = try PlannedForecast(fast, request, strategies: [.precopy], runs: 1, seed: 1)
    #expect(chosen.lines.joined().contains("as zstd packs it"))
  }

  /// Who writes by turns is foretold less surely; who doesn't, as before.
  @Test func turnsWidenTheBand() throws {
    // Moves so far took what the model had said: the band is the model's own.
    var record = MigrationRecord(outcome: .completed)
    (record.strategy, record.forecast.modelTotalMs) = ("hotpages", 4000)
    (record.totalMs, record.pages.raw) = (4000, 1000)
    let past = try #require(PastForecast(record))
    func forecast(_ phases: [UInt64]?) throws -> (PlanReport, PlannedForecast) {
      try planned { report in
        report.earlier = Array(repeating: past, count: 20)
        report.guest?.dirtyCurve = [250, 1000, 4000].map { ms in
          Self.point(windowMs: ms, found: ms * 8, of: 262_144)
        }
        report.guest?.phases = phases?.map { found in
          Self.point(windowMs: 1000, found: found, of: 16_384)
        }
      }
    }
    let ((_, plain), (_, steady)) = try (forecast(nil), forecast([500, 520, 490, 510]))
    let (report, turning) = try forecast([1000, 20, 900, 80])
    #expect(plain.forecast.rows == steady.forecast.rows)
    let (narrow, wide) = try (
      #require(plain.forecast.rows[0].totalMs), #require(turning.forecast.rows[0].totalMs)
    )
    #expect(wide.high - wide.low > narrow.high - narrow.low, "\(narrow), \(wide)")
    #expect(turning.lines.joined().contains("times as much as in the mean"))
    #expect(try JSONLine.encode(PlanAnswer(report, turning)).contains(#""phases":[{"#))
  }

  /// A slower cap counts, and a time that nothing can keep is a refusal.
  @Test func constraintsCount() throws {
    let (_, free) = try planned()
    let (_, capped) = try planned({ _ in }, "--bandwidth", "20MB/s")
    let (fast, slow) = try (
      #require(free.forecast.rows[1].totalMs), #require(capped.forecast.rows[1].totalMs)
    )
    #expect(slow.median > fast.median * 3)
    let (report, late) = try planned({ _ in }, "--within", "2s")
    #expect(late.isRefused)
    #expect(try JSONLine.encode(PlanAnswer(report, late)).contains(#""outcome":"refused""#))
  }

  /// What is copied before the guest's memory takes of the time: 20 GB at 110 MB/s are more than a minute.
  @Test func disksThatTakeTooLongAreARefusal() throws {
    func planned(_ within: String) throws -> (PlanReport, PlannedForecast) {
      try self.planned(
        { report in
          report.disks = [
            PlannedDisk(
              name: "vda", path: "/a", bytes: 20_000_000_000, takenBytes: 20_000_000_000,
              isShared: false)
          ]
        }, "--within", within)
    }
    let (report, late) = try planned("60s")
    #expect(late.isRefused)
    #expect(try JSONLine.encode(PlanAnswer(report, late)).contains("have gone by"))
    #expect(try !planned("1h").1.isRefused)
  }

  /// What `migrate --forecast` hands to the agent, for the record.
  @Test func aForecastIsKept() throws {
    let (report, planned) = try planned()
    let kept = try #require(MigrationRecord.Forecast(planned, .hotpages))
    let (low, median, high) = try (
      #require(kept.totalLowMs), #require(kept.totalMs), #require(kept.totalHighMs)
    )
    #expect(low <= median && median <= high && (6500...12_000).contains(median))
    #expect(kept.plannedDowntimeMs != nil && kept.downtimeMs == nil)
    #expect(MigrationRecord.Forecast(planned, .stall) == nil)
    var request = MigrationRequest(vm: "a", destination: "b")
    request.forecast = kept
    let copy = try JSONLine.decode(
      MigrationRequest.self, from: try JSONLine.encode(request).utf8)
    #expect(copy == request)
    // As a look of half a second: one window as short is too few.
    #expect(DirtyBound(try #require(report.guest)) == nil)
  }

  @Test func tooLittleIsNoForecast() {
    #expect(throws: ControlError.self) { try planned { $0.link = nil } }
    #expect(throws: ControlError.self) { try planned { $0.guest = nil } }
    #expect(throws: ControlError.self) { try planned { $0.guest?.ramPages = 0 } }
  }

  @Test func refusalsAreTold() throws {
    var report = try JSONLine.decode(PlanReport.self, from: ScriptedAgent.planned.utf8)
    report.refusals = [Refusal(.memory, "too little memory", remedy: "free some")]
    (report.guest, report.link) = (nil, nil)
    let line = try JSONLine.encode(PlanAnswer(report, nil))
    #expect(line.contains(#""outcome":"refused""#) && line.contains("too little memory"))
    #expect(line.contains(#""guest":null"#) && line.contains(#""autoTakes":null"#))
  }

  @Test(.timeLimit(.minutes(1))) func theAgentIsAsked() async throws {
    try await ScriptedAgent().serve(at: path) { client, _ in
      let report = try await client.plan(MigrationRequest(vm: "web-1", destination: "b"))
      #expect(report.guest?.dirtyCurve.count == 3 && report.link?.lanes == 4)
      await #expect(throws: ControlError(.refused, "no VM db-1")) {
        try await client.plan(MigrationRequest(vm: "db-1", destination: "b"))
      }
      await #expect(throws: ControlError.self) {
        try await client.plan(MigrationRequest(vm: "web-1", destination: ""))
      }
    }
  }

  @Test func wrongUsage() {
    for arguments in [["a"], ["a", "b", "--runs", "0"], ["a", "b", "--within", "0s"]] {
      #expect(throws: (any Error).self) { try GodwitCommand.parseAsRoot(["plan"] + arguments) }
    }
  }
}
