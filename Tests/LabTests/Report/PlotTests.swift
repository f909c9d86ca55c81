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
