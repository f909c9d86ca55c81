import Testing

@testable import Lab

@Suite struct PlotTests {
  @Test(
    arguments: [
      ([0.3, 0.7], 0.8, 0.2), ([97], 100, 20), ([100], 100, 20), ([1, 1234], 1250, 250),
      ([8e9], 8e9, 2e9), ([0.004], 0.004, 0.001),
    ] as [([Double], Double, Double)])
  func axesEndAtRoundNumbers(values: [Double], high: Double, step: Double) {
    let scale = PlotScale(values)
    #expect(abs(scale.high - high) < high * 1e-9)
    #expect(abs(scale.ticks[1] - step) < step * 1e-9)
    #expect(scale.ticks.first == 0 && (3...7).contains(scale.ticks.count))
  }

  @Test func axesOfNothingAreAxesAllTheSame() {
    #expect(PlotScale([]).high == 1)
    #expect(PlotScale([.infinity, .nan, 0]).high == 1)
    #expect(PlotScale([4]).place(.infinity, on: 50) == 50)
    #expect(PlotScale([4]).place(-3, on: 50) == 0)
  }

  @Test func whatIsWrittenIsNoMarkup() {
    #expect(SVG.escape("<a b=\"&\">") == "&lt;a b=&quot;&amp;&quot;&gt;")
    #expect(SVG.text(1, 2, "</text><script>").contains("<script>") == false)
    #expect(["-0.5", "3", "2.3", "0"] == [-0.5, 3.04, 2.25, .nan].map(SVG.number))
  }

  /// A dip of one bucket among thousands is what people look for.
  @Test func thinningKeepsDips() {
    var points = (0..<10_000).map { (x: Double($0), y: 100.0) }
    points[7777].y = 0
    let thinned = LinePlot.thinned(points)
    #expect(thinned.count <= LinePlot.pointsMax + 2)
    #expect(thinned.contains { $0.y == 0 })
    #expect(zip(thinned, thinned.dropFirst()).allSatisfy { $0.x <= $1.x })
    #expect(LinePlot.thinned(Array(points.prefix(5))).count == 5)
  }

  @Test func aBarThatIsNeverReachedIsOpen() {
    let plot = BarPlot(
      title: "t",
      rows: [
        .init(name: "a", parts: [.init(name: "x", value: 4, colour: 0)], text: "4"),
        .init(name: "b", parts: [], text: "not done", isOpen: true),
      ], tickText: { "\($0)" })
    #expect(plot.svg.contains("class=\"never\"") && plot.svg.contains("not done"))
    #expect(SVG.file(plot.svg).contains("<style>"))
  }

  private func heat(_ ratios: [Double?]) -> HeatPlot {
    let cells = ratios.map { ratio in
      ratio.flatMap { Estimate([$0, $0, $0]) }.map { HeatPlot.Cell(ratio: $0, title: "<t>") }
    }
    return HeatPlot(
      title: "t", columns: ratios.indices.map { .init(name: "guest-\($0)", note: "to <x>") },
      rows: [.init(name: "godwit-dsm", cells: cells)])
  }

  @Test(
    arguments: [
      (0.1, 0), (0.3, 1), (0.69, 2), (0.89, 3), (1, 4), (1.1, 5), (1.5, 6), (3, 7), (9, 8),
      (.infinity, 8),
    ] as [(Double, Int)])
  func shadesOfRatios(ratio: Double, shade: Int) {
    #expect(HeatPlot.shade(ratio) == shade)
    // As much worse is as orange as so much better is blue.
    if ratio != 0.3, ratio != 1.1 { #expect(HeatPlot.shade(1 / ratio) == 8 - shade) }
  }

  @Test func cellsSayTheirNumbers() {
    let svg = heat([0.4, 1.5, .infinity, nil]).svg
    for (text, style) in [("0.40", "h1"), ("1.50", "h6"), ("never", "h8")] {
      #expect(svg.contains("class=\"label\">\(text)</text>"), "\(text)")
      #expect(svg.contains("class=\"\(style)\"><title>&lt;t&gt;</title>"), "\(style)")
    }
    #expect(svg.contains(">–</text>") && svg.contains("to &lt;x&gt;") && !svg.contains("<x>"))
  }

  /// What is on both sides of 1, or was measured once, claims nothing.
  @Test(arguments: [[0.9, 1, 1.3], [0.5]])
  func cellsThatClaimNothingAreHatched(values: [Double]) throws {
    let ratio = try #require(Estimate(values))
    let plot = HeatPlot(
      title: "t", columns: [.init(name: "g", note: "")],
      rows: [.init(name: "m", cells: [.init(ratio: ratio, title: "cell")])])
    let shade = HeatPlot.shade(ratio.median)
    #expect(plot.svg.contains("class=\"b\(shade)\"><title>cell</title>"))
    #expect(!plot.svg.contains("class=\"h\(shade)\"><title>cell</title>"))
    #expect(plot.svg.contains("class=\"over\">\(MatrixTable.hundredths(ratio.median))"))
  }

  /// Lines of a hatched cell stay in it.
  @Test func hatchingStaysInItsCell() throws {
    let ratio = try #require(Estimate([0.5]))
    let plot = HeatPlot(
      title: "t", columns: [.init(name: "g", note: "")],
      rows: [.init(name: "m", cells: [.init(ratio: ratio, title: "cell")])])
    let box = try #require(
      plot.svg.firstMatch(
        of: /x="([0-9.]+)" y="([0-9.]+)" width="([0-9.]+)" height="([0-9.]+)" class="b2"/))
    let numbers = [box.1, box.2, box.3, box.4].compactMap { Double($0) }
    try #require(numbers.count == 4)
    let (x, y) = (numbers[0]...(numbers[0] + numbers[2]), numbers[1]...(numbers[1] + numbers[3]))
    let lines = try #require(plot.svg.firstMatch(of: /<path d="([^"]+)" class="e2"/))
    let points = lines.1.matches(of: /[ML]([0-9.]+) ([0-9.]+)/)
    #expect(points.count > 10)
    for point in points {
      #expect(x.contains(Double(point.1) ?? 0) && y.contains(Double(point.2) ?? 0), "\(point.0)")
    }
  }

  @Test func stripsMarkAndCut() throws {
    let plot = StripPlot(
      title: "t", xTitle: "x", range: -10...20, ticks: [-10, 0, 20], bucket: 10, high: 200,
      level: 100, xText: SVG.number, yText: SVG.number,
      strips: [
        .init(
          name: "<m>", text: "silent", colour: 3,
          values: [(x: -10, y: 100), (x: 0, y: 0), (x: 10, y: 900)], mark: 0...10)
      ])
    let svg = plot.svg
    #expect(svg.contains("&lt;m&gt;") && svg.contains("class=\"pause\"><title>silent</title>"))
    // From the left end at half the height, down to nothing, and to the very top at the most.
    #expect(svg.contains("d=\"M52 80V50H204V80H356V20H508V80Z\" class=\"f3\""))
    #expect(svg.contains("<rect x=\"204\" y=\"20\" width=\"152\" height=\"60\""))
  }

  @Test func namesDoNotStandOnEachOther() throws {
    let points = (0..<5).map { index in
      TradePlot.Point(name: "qemu-way-\(index)", x: 10, y: 10 + Double(index) / 100, colour: 0)
    }
    let plot = TradePlot(
      title: "t", xTitle: "x", yTitle: "y",
      points: points + [.init(name: "far", x: 1, y: 10, colour: 1)], xText: SVG.number,
      yText: SVG.number)
    let places = plot.svg.matches(of: /y="([0-9.]+)" text-anchor="start" class="label">qemu-way/)
      .compactMap { Double($0.1) }.sorted()
    #expect(places.count == 5)
    #expect(zip(places, places.dropFirst()).allSatisfy { $1 - $0 >= 13.9 })
    // One that is beside none stays where its point is.
    #expect(plot.svg.contains("y=\"82\" text-anchor=\"start\" class=\"label\">far"))
  }

  @Test func longNamesHaveRoom() throws {
    let name = "qemu-mirror-write-blocking+tuned"
    let plot = BarPlot(
      title: "t",
      rows: [.init(name: name, parts: [.init(name: "x", value: 4, colour: 0)], text: "4")],
      tickText: { "\($0)" })
    let match = try #require(plot.svg.firstMatch(of: /<text x="([0-9.]+)"[^>]*>qemu-mirror/))
    #expect(try #require(Double(match.1)) >= SVG.width(of: name))
  }
}
