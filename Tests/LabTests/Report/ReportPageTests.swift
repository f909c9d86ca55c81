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
    for index in results.indices { results[index].lab.accelerator = "tcg" }
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
    #expect(index.contains("1 migrations were not done") && !index.contains("Fewer than 3"))
    let page = pages.files[2].text
    let left = "what it is.\n\nOf the scenario this was not measured: guests hot, other; "
    #expect(page.contains(left))
    #expect(
      page.contains("methods godwit-dsm; rounds 4 to 9.")
        && page.contains("| godwit-hotpages | 2 of 2 | 2.5 s"))
    let pictures = Set(pages.files.dropFirst(3).map(\.path))
    #expect(pictures.count == pages.files.count - 3 && !pictures.isEmpty)
    for path in pictures { #expect(page.contains("](\(path))"), "\(path)") }
    let empty = try ResultPages([], suites: [suite])
    #expect(empty.files.map(\.path) == ["README.md"])
    #expect(empty.files[0].text.contains("Nothing has been measured yet."))
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
