import Agent
import Foundation
import Testing

@testable import Lab

@Suite struct ReportPageTests {
  /// Two methods over two rounds; one of QEMU's is never done, and a guest's name is hostile.
  static var results: [MatrixResult] {
    var results = [
      MatrixResultTests.result("qemu-precopy", round: 0, totalMs: 4000),
      MatrixResultTests.result("qemu-precopy", round: 1, totalMs: nil),
      MatrixResultTests.result("qemu-precopy", round: 2, totalMs: 4400),
      MatrixResultTests.result("godwit-hotpages", round: 0, totalMs: 2000),
      MatrixResultTests.result("godwit-hotpages", round: 1, totalMs: 3000),
    ]
    for index in results.indices {
      results[index].lab.guest = "<b>hot</b>"
      results[index].record.pages.raw = 1000
      results[index].record.wireBytes = 4_000_000
    }
    results[3].record.forecast.totalMs = 2100
    results[3].record.forecast.totalLowMs = 1900
    results[3].record.forecast.totalHighMs = 2300
    return results
  }

  @Test func aPageHoldsEverythingAndNeedsNothing() throws {
    let page = ReportPage(Self.results, title: "a & b")
    #expect(page.html.hasPrefix("<!doctype html>") && page.html.hasSuffix("</html>\n"))
    #expect(page.html.contains("<title>a &amp; b</title>"))
    #expect(!page.html.contains("<b>hot") && page.html.contains("&lt;b&gt;hot&lt;/b&gt;"))
    // Nothing is fetched: no source, no address but the names of formats.
    #expect(!page.html.contains("src=") && !page.html.contains("@import"))
    let addresses = page.html.ranges(of: "http").count
    #expect(addresses == page.html.ranges(of: "http://www.w3.org/2000/svg").count)
    #expect(page.html.ranges(of: "<svg").count == page.plots.count)
    #expect(page.html.ranges(of: "</svg>").count == page.plots.count)
    #expect(page.html.contains("1 of 1 totals within their band"))
    let names = page.plots.map(\.name)
    #expect(Set(names).count == names.count)
    #expect(names.allSatisfy { !$0.contains("/") && !$0.contains("<") })
  }

  @Test func tablesSayTheSameEverywhere() throws {
    let page = ReportPage(Self.results, title: "t")
    let figures = try #require(page.tables.first)
    #expect(figures.csv.hasPrefix("method,done,total,downtime"))
    let lines = figures.csv.split(separator: "\r\n")
    #expect(lines.count == 3)
    #expect(
      lines.first { $0.hasPrefix("godwit-hotpages") }?.hasPrefix("godwit-hotpages,2.0,2500.0")
        == true)
    #expect(page.markdown().contains("| godwit-hotpages | 2 of 2 | 2.5 s"))
    let ratios = try #require(page.tables.dropFirst().first)
    // In the one round where the rival was done.
    #expect(ratios.rows.first?.cells.first?.ratio?.median == 0.5)
    // One round claims nothing.
    #expect(
      page.html.contains("<td>0.50</td>") && page.html.contains("fewer than 3 rounds of some"))
  }

  /// A ratio is better or worse when all of its interval is.
  @Test(
    arguments: [
      ([2000, 2000, 2000], "class=\"better\">0.50"),
      ([3800, 4200, 4000], "class=\"same\">1.00 [0.95, 1.05]"),
      ([5000, 6000, 7000], "class=\"worse\">1.50"),
    ] as [([UInt64], String)])
  func ratiosWithIntervals(totalsMs: [UInt64], cell: String) {
    var results: [MatrixResult] = []
    for (round, totalMs) in totalsMs.enumerated() {
      results.append(MatrixResultTests.result("qemu-precopy", round: round, totalMs: 4000))
      results.append(MatrixResultTests.result("godwit-dsm", round: round, totalMs: totalMs))
    }
    let page = ReportPage(results, title: "t")
    #expect(page.html.contains(cell) && !page.html.contains("fewer than 3 rounds"))
  }

  /// Three rounds of two guests; the second has no rival that was done.
  private static var twoGuests: [MatrixResult] {
    (0..<3).flatMap { round -> [MatrixResult] in
      [
        MatrixResultTests.result("qemu-precopy", round: round, guest: "a", totalMs: 4000),
        MatrixResultTests.result("godwit-dsm", round: round, guest: "a", totalMs: 2000),
        MatrixResultTests.result("qemu-precopy", round: round, guest: "b", totalMs: nil),
        MatrixResultTests.result("godwit-dsm", round: round, guest: "b", totalMs: 3000),
      ]
    }
  }

  @Test func aMatrixOfRatiosForEachFigure() throws {
    let page = ReportPage(Self.twoGuests, title: "t")
    let total = try #require(page.plots.first { $0.name == "ratios-total" })
    // A guest with nothing to compare with has no column.
    #expect(total.svg.contains(">a</text>") && !total.svg.contains(">b</text>"))
    #expect(
      total.svg.contains("class=\"h2\"><title>godwit-dsm, a: 0.50 [0.50, 0.50] of qemu-precopy"))
    #expect(total.svg.contains("to precopy") && !total.svg.contains(">qemu-precopy<"))
    #expect(page.plots.contains { $0.name == "ratios-downtime" })
    #expect(page.plots.contains { $0.name == "ratios-wire" })
    #expect(!page.plots.contains { $0.name == "ratios-latency" })
    #expect(page.html.contains("Ratios to QEMU's best way"))
    #expect(page.markdown(pictures: "p").contains("](p/ratios-total.svg)"))
  }

  @Test func aSingleGuestHasOneMatrix() throws {
    let page = ReportPage(Self.twoGuests.filter { $0.lab.guest == "a" }, title: "t")
    let names = page.plots.map(\.name).filter { $0.hasPrefix("ratios") }
    #expect(names == ["ratios"])
    #expect(page.plots.first?.svg.contains(">downtime</text>") == true)
    let rivals = Self.twoGuests.filter { $0.lab.method == "qemu-precopy" }
    #expect(!ReportPage(rivals, title: "t").html.contains("Ratios to"))
  }

  @Test func theSwitchoverAsItWasHeard() throws {
    var results = Self.results
    var log = HeartbeatLog()
    for beat in 0..<600 where !(300..<320).contains(beat) {
      let work = beat < 300 ? beat * 10 : (beat - 20) * 10
      log.receive(
        Array("HB \(beat < 300 ? beat : beat - 20) 0 0 0 0 \(work) 0 0\n".utf8),
        from: beat < 300 ? .source : .destination, atUs: UInt64(beat) * 10_000)
    }
    results[3].lab.throughput = GuestThroughput(
      log, .init(calmFromUs: 0, startUs: 500_000, endUs: 3_300_000, untilUs: 5_900_000),
      moved: true)
    #expect(results[3].lab.throughput?.stoppedAtMs == 2490)
    let page = ReportPage(results, title: "t")
    let plot = try #require(page.plots.first { $0.name.hasSuffix("-switchover") })
    #expect(plot.svg.contains("silent for 210 ms") && plot.svg.contains("godwit-hotpages"))
    // One that was never done did not switch over.
    #expect(!plot.svg.contains("qemu-precopy"))
    #expect(
      !ReportPage(Self.results, title: "t").plots.contains { $0.name.hasSuffix("-switchover") })
  }

  @Test func whichBuildItWas() throws {
    var results = Self.results
    #expect(!ReportPage(results, title: "t").html.contains("build:"))
    results[0].lab.commit = "0123456789ab-dirty"
    results[0].lab.programSHA256 = "fedcba9876543210"
    let text = "0123456789ab-dirty (program fedcba9876543210)"
    #expect(ReportPage(results, title: "t").html.contains("build: \(text)"))
    let pages = try ResultPages([.init(name: "one", scenario: nil, results: results)], suites: [])
    #expect(pages.files[0].text.contains(text) && pages.files[2].text.contains(text))
    let line = try JSONLine.encode(results[0])
    #expect(line.contains("\"commit\":\"0123456789ab-dirty\""))
    #expect(try JSONLine.decode(MatrixResult.self, from: line.utf8) == results[0])
  }

  @Test func forecastsInTheIndex() throws {
    let band: [(UInt64, UInt64, UInt64)] = [(900, 1000, 1100), (400, 500, 600), (900, 1250, 1500)]
    var results: [MatrixResult] = []
    for (round, forecast) in band.enumerated() {
      results.append(
        MatrixResultTests.result("godwit-dsm", round: round) {
          $0.record.totalMs = 1000
          $0.record.forecast.totalLowMs = forecast.0
          $0.record.forecast.totalMs = forecast.1
          $0.record.forecast.totalHighMs = forecast.2
        })
    }
    let summary = ExperimentSummary(results, name: "one")
    let again = try JSONLine.decode(ExperimentSummary.self, from: JSONLine.encode(summary).utf8)
    #expect(again == summary)
    var none = ExperimentSummary(Self.results, name: "two")
    none.forecasts = nil
    let text = ResultsIndex([again, none], []).markdown
    #expect(text.contains("| 2 of 3, 25 % |"))
    #expect(text.contains("2 of 3 within their band of nine tenths (66 %)"))
    #expect(!ResultsIndex([none], []).markdown.contains("within their band of nine"))
  }

  /// Summaries that were written before lack what came later; their pages stay in the index.
  @Test func summariesOfEarlierVersions() throws {
    let summary = ExperimentSummary(Self.results, name: "one")
    var text = try JSONLine.encode(summary)
    for field in ["builds", "latencies"] {
      let shorter = text.replacing(try Regex("\"\(field)\":\\[[^\\]]*\\],"), with: "")
      #expect(shorter != text, "\(field)")
      text = shorter
    }
    for field in [#""competing":null,"#, #""leastRounds":2,"#] {
      #expect(text.contains(field), "\(field)")
      text = text.replacing(field, with: "")
    }
    let earlier = try JSONLine.decode(ExperimentSummary.self, from: text.utf8)
    #expect(earlier.builds == nil && earlier.links == summary.links)
    #expect(ResultsIndex([earlier], []).markdown.contains("| [one](one.md) | 5 |"))
  }

  @Test func whereAndBesideWhat() {
    var results = Self.results
    for index in results.indices { results[index].lab.linkLatencyMs = index == 0 ? 100 : 20 }
    (results[0].lab.competingBytesPerSecond, results[1].lab.competingBytesPerSecond) =
      (25_000_000, 50_000_000)
    results[2].lab.host.loadPercent = 153
    let facts = ExperimentSummary(results, name: "x").facts
    #expect(
      facts == [
        "5 migrations, 3 rounds; Godwit 0.1.0",
        "link: 125 MB/s, 20 ms, 100 ms each way (namespaces)",
        "beside others' traffic, which got 50 MB/s at the median and at most 50 MB/s",
        "machine: 2 processors (unknown), Linux unknown",
        "load average before a migration: at most 1.53",
        "fewer than 3 rounds of some: figures without intervals, from which nothing follows",
      ])
  }

  /// QEMU's post-copy and Godwit's pull, by pages that guests waited for over the network.
  @Test func networkFaults() throws {
    let pulls: [(String, UInt64, UInt64?)] = [
      ("qemu-postcopy", 400, nil), ("godwit-dsm", 300, 200),
    ]
    var results: [MatrixResult] = []
    for round in 0..<3 {
      for (method, faults, local) in pulls {
        var pull = MigrationRecord.Pull()
        (pull.placedPages, pull.faultPages) = (20_000, faults)
        pull.localFaultPages = local
        results.append(MatrixResultTests.result(method, round: round) { $0.record.pull = pull })
      }
      results.append(MatrixResultTests.result("qemu-precopy", round: round))
    }
    #expect(MatrixFigure.faults.value(results[0]) == 2)
    #expect(MatrixFigure.faults.value(results[1]) == 0.5)
    #expect(MatrixFigure.faults.value(results[2]) == nil)
    #expect(MatrixFigure.faults.text(0.5) == "0.50 %")
    let comparison = try #require(MatrixComparison.all(results).first)
    #expect(comparison.ratio(.faults, "godwit-dsm", to: "qemu-postcopy")?.median == 0.25)
    #expect(ReportTable.ratios(comparison)?.header.contains("net faults to postcopy") == true)
    // Where no rival has it there is no column of dashes.
    let others = results.filter { $0.lab.method != "qemu-postcopy" }
    let without = try #require(MatrixComparison.all(others).first)
    #expect(ReportTable.ratios(without)?.header.contains { $0.hasPrefix("net faults") } == false)
    #expect(without.figures.contains(.faults))
    let table = try #require(ReportTable.pulls(comparison))
    #expect(table.rows.map(\.name) == ["godwit-dsm", "qemu-postcopy"])
    #expect(table.rows[0].cells.map(\.text) == ["–", "20000", "–", "300", "100"])
    let lines = MatrixTable.lines(results)
    #expect(lines.contains { $0.contains("NET FAULTS") } && lines.contains("  \(table.title)"))
    #expect(ReportTable.pulls(try #require(MatrixComparison.all(Self.results).first)) == nil)
  }

  @Test(
    arguments: [
      ("a.jsonl", "a.html"), ("x/a.b.jsonl", "x/a.b.html"), ("a", "a.html"),
      ("a.html", "a.html.html"), ("d.1/a", "d.1/a.html"), ("d/.jsonl", "d/.jsonl.html"),
    ])
  func whereThePageGoes(results: String, page: String) {
    #expect(ResultsFile(path: results).pagePath == page)
  }

  static let scenario = try? MatrixScenario.parse(
    """
    name = "one"
    about = "what it is"
    methods = ["qemu-precopy", "godwit-hotpages", "godwit-dsm"]
    rounds = 9
    [[guest]]
    name = "hot"
    [[guest]]
    name = "other"
    """, path: "x.toml")

  @Test func fieldsOfSpreadsheetsAreQuoted() {
    let table = ReportTable(
      name: "n", title: "t", header: ["a,b", "c"],
      rows: [("say \"x\"", [.init(text: "1", value: 1)])])
    #expect(table.csv == "\"a,b\",c\r\n\"say \"\"x\"\"\",1.0\r\n")
  }

  @Test func damageIsSaidFirst() {
    var results = Self.results
    results[0].lab.damage = ["3 pages differ"]
    let page = ReportPage(results, title: "t")
    #expect(page.html.contains("3 pages differ"))
    #expect(!page.html.contains("Everything that moved was intact"))
  }

  @Test func pagesOfADocumentation() throws {
    var results = Self.results
    for index in results.indices {
      results[index].lab.accelerator = "tcg"
      results[index].lab.operationsTimeline = [1, 2, 3]
    }
    #expect(Self.scenario != nil)
    let suite = LabSuite(name: "s", about: "a | b", experiments: ["one", "two"])
    let pages = try ResultPages(
      [
        .init(name: "one", scenario: Self.scenario, results: results),
        .init(name: "none", scenario: nil, results: []),
      ], suites: [suite])
    #expect(pages.files.map(\.path).prefix(3) == ["README.md", "one/summary.json", "one.md"])
    let index = pages.files[0].text
    #expect(index.contains("| `s` | a \\| b | [one](one.md), two |"))
    #expect(index.contains("| [one](one.md) | 5 | 3 | 4 | 5 |"))
    #expect(index.contains("TCG") && index.contains("2 processors"))
    // One was done in two rounds of three.
    #expect(index.contains("1 migrations were not done") && index.contains("Fewer than 3 rounds"))
    let page = pages.files[2].text
    let left = "what it is.\n\nOf the scenario this was not measured: guests hot, other; "
    #expect(page.contains(left))
    #expect(
      page.contains("methods godwit-dsm; rounds 4 to 9.")
        && page.contains("| godwit-hotpages | 2 of 2 | 2.5 s"))
    let pictures = Set(pages.files.dropFirst(3).map(\.path))
    #expect(pictures.count == pages.files.count - 3 && !pictures.isEmpty)
    for path in pictures { #expect(page.contains("](\(path))"), "\(path)") }
    let lines = try #require(pages.files.first { $0.path == "one/results.jsonl" }).text
    let again = try ResultsFile.parse(Array(lines.utf8), path: "results.jsonl")
    #expect(again == results.map(\.withoutTimelines))
    let tables = { (results: [MatrixResult]) in ReportPage(results, title: "t").tables.map(\.csv) }
    #expect(tables(again) == tables(results) && !tables(again).isEmpty)
    let empty = try ResultPages([], suites: [suite])
    #expect(empty.files.map(\.path) == ["README.md"])
    #expect(empty.files[0].text.contains("Nothing has been measured yet."))
  }

  @Test func whatIsMissingIsSaid() throws {
    var results = Self.results
    let guest = "hot"
    for index in results.indices { results[index].lab.guest = guest }
    let methods = Set(results.map(\.lab.method)).sorted()
    func said(_ qemus: [String], _ results: [MatrixResult]) throws -> String? {
      let names = { (all: [String]) in all.map { "\"\($0)\"" }.joined(separator: ", ") }
      return try MatrixScenario.parse(
        """
        name = "one"
        about = "what it is"
        qemu = [\(names(qemus))]
        methods = [\(names(methods))]
        rounds = 3
        [[guest]]
        name = "\(guest)"
        """, path: "x.toml"
      ).unmeasured(in: results)
    }
    let own = Set(results.map(\.lab.qemu)).sorted()
    #expect(
      try said(own, results)?.hasSuffix("not measured: round 3 of \(guest), in part.") == true)
    #expect(
      try said(own + ["7.2"], results)?.contains("QEMU 7.2; round 3 of \(guest), in part.") == true)
    let whole = results.filter { $0.lab.round < 2 }
    #expect(try said(own, whole)?.hasSuffix("not measured: round 3.") == true)
    #expect(
      try said(own, whole.filter { $0.lab.round < 1 })?.hasSuffix(": rounds 2 to 3.") == true)
  }

  /// What was measured before stays in the index until it is measured again.
  @Test func pagesFromBefore() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "pages-\(UUID())")
    defer { try? FileManager.default.removeItem(at: folder) }
    func write(_ name: String, _ results: [MatrixResult]) throws -> String {
      let pages = try ResultPages(
        [.init(name: name, scenario: nil, results: results)], suites: [],
        kept: ExperimentSummary.written(in: folder.path))
      for page in pages.files {
        let file = folder.appending(path: page.path)
        try FileManager.default.createDirectory(
          at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(page.text.utf8).write(to: file)
      }
      return pages.files[0].text
    }
    _ = try write("two", Self.results)
    let both = try write("one", Self.results)
    #expect(
      both.contains("| [one](one.md) | 5 | 3 |") && both.contains("| [two](two.md) | 5 | 3 |"))
    #expect(both.contains("- 10 migrations"))
    #expect(try write("two", Array(Self.results.prefix(2))).contains("| [two](two.md) | 2 |"))
    try Data("{".utf8).write(to: folder.appending(path: "two/summary.json"))
    #expect(try !write("one", Self.results).contains("(two.md)"))
  }
}
