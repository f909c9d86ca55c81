import Base
import Strategy
import Testing

/// Machines by reference: `#expect` takes no calls that change a value.
private final class Directory {
  private var machine: PullDirectory
  var nowUs: UInt64 = 0
  init(_ machine: PullDirectory) { self.machine = machine }
  var counters: PullDirectory.Counters { machine.counters }
  var inFlight: Int { machine.inFlight }
  var missingCount: Int { machine.missingCount }
  var isDone: Bool { machine.isDone }
  func state(of page: Int) throws -> PullPageState { try machine.state(of: page) }
  func fault(_ page: Int) throws { try machine.fault(page, nowUs: nowUs) }
  func arrived(_ page: Int) throws -> Bool { try machine.arrived(page, nowUs: nowUs) }
  func nextRequest() -> PullRun? { machine.nextRequest(nowUs: nowUs) }
  func forgetRequests() { machine.forgetRequests() }
  func prefer(_ pages: Range<Int>, heat: UInt8) throws { try machine.prefer(pages, heat: heat) }
}

private final class Source {
  private var machine: PullSource
  init(_ machine: PullSource) { self.machine = machine }
  var counters: PullSource.Counters { machine.counters }
  func request(_ run: PullRun) throws { try machine.request(run) }
  func nextUrgent(limit: Int) -> Range<Int>? { machine.nextUrgent(limit: limit) }
  func nextAhead(limit: Int) -> Range<Int>? { machine.nextAhead(limit: limit) }
  func nextQuestion(limit: Int) -> Range<Int>? { machine.nextQuestion(limit: limit) }
  func noteIdentified(_ count: Int, of answered: Int) {
    machine.noteIdentified(count, of: answered)
  }
}

@Suite struct PullDirectoryTests {
  static let numbering = PageNumbering(blockPages: [100, 1, 64])

  private func directory(
    _ invalid: [Int], inFlightMax: Int = 8, runMax: Int = 2
  ) -> Directory {
    var bitmap = PageBitmap(count: Self.numbering.limit)
    for page in invalid { bitmap[page] = true }
    return Directory(
      PullDirectory(
        numbering: Self.numbering, invalid: bitmap, pace: PullPace(pagesMax: inFlightMax),
        runMax: runMax))
  }

  @Test func eachPageGoesThroughItsStatesOnce() throws {
    let directory = directory([5, 6])
    #expect(try directory.state(of: 4) == .present)
    #expect(try directory.state(of: 5) == .wanted)
    try directory.fault(5)
    #expect(try directory.state(of: 5) == .wanted)
    #expect(directory.nextRequest() == PullRun(5..<6, .urgent))
    #expect(try directory.state(of: 5) == .requested)
    #expect(try directory.arrived(5))
    #expect(try directory.state(of: 5) == .placed)
    for page in [5, 5, 4] { #expect(try !directory.arrived(page)) }
    #expect(directory.counters.duplicates == 3 && directory.missingCount == 1)
    // A request that crossed the page.
    try directory.fault(5)
    #expect(directory.counters.faultsAnsweredBefore == 1)
    // Nobody asked for it: as welcome as the others.
    #expect(try directory.arrived(6))
    #expect(directory.isDone && directory.nextRequest() == nil)
    #expect(directory.counters.placedUnasked == 1 && directory.counters.placedForFaults == 1)
  }

  @Test func faultsGoFirstAndInTheirOrder() throws {
    let directory = directory(Array(0..<100), inFlightMax: 4)
    while directory.nextRequest() != nil {}
    #expect(directory.inFlight == 4)
    for page in [70, 10, 70, 40] { try directory.fault(page) }
    let asked = (0..<3).compactMap { _ in directory.nextRequest() }
    #expect(asked == [70, 10, 40].map { PullRun($0..<$0 + 1, .urgent) })
    // Pages asked for ahead are bounded; a fault for one of them makes it urgent and makes room.
    #expect(directory.nextRequest() == nil)
    try directory.fault(0)
    #expect(directory.nextRequest() == PullRun(0..<1, .urgent))
    #expect(directory.counters.faults == 4 && directory.counters.faultsOnTheWay == 1)
    #expect(directory.nextRequest()?.isUrgent == false)
    #expect(directory.inFlight == 4)
  }

  @Test func theWindowBubblesAroundTheLastFault() throws {
    let directory = directory(Array(0..<100), inFlightMax: 100)
    func ahead(_ count: Int) -> [Range<Int>] {
      (0..<count).compactMap { _ in directory.nextRequest() }.map(\.pages)
    }
    try directory.fault(50)
    #expect(ahead(5) == [50..<51, 51..<53, 48..<50, 53..<55, 46..<48])
    // A new pivot, in reach of the old window: what is asked for is stepped over.
    try directory.fault(56)
    #expect(ahead(4) == [56..<57, 57..<59, 55..<56, 59..<61])
    // One that is there already moves the window, too.
    #expect(try directory.arrived(99))
    try directory.fault(99)
    #expect(ahead(2) == [97..<99, 95..<97])
    // A block's end is not the end.
    try directory.fault(0)
    #expect(ahead(3) == [0..<1, 1..<3, 3..<5])
  }

  @Test func otherBlocksFollow() throws {
    let second = Self.numbering.number(block: 1, page: 0)
    let third = Self.numbering.number(block: 2, page: 63)
    let directory = directory([99, second, third], inFlightMax: 100)
    try directory.fault(98)
    var asked: [Range<Int>] = []
    while let run = directory.nextRequest() { asked.append(run.pages) }
    #expect(asked == [99..<100, second..<second + 1, third..<third + 1])
  }

  @Test func afterABreakEverythingIsAskedForAgain() throws {
    let directory = directory(Array(0..<20), inFlightMax: 4)
    for page in [7, 3, 9] { try directory.fault(page) }
    while directory.nextRequest() != nil {}
    #expect(try directory.arrived(3))
    directory.forgetRequests()
    #expect(directory.inFlight == 0 && directory.missingCount == 19)
    var asked: [PullRun] = []
    while let run = directory.nextRequest() { asked.append(run) }
    #expect(asked.prefix(2) == [PullRun(7..<8, .urgent), PullRun(9..<10, .urgent)])
    #expect(asked.dropFirst(2).allSatisfy { !$0.isUrgent } && directory.inFlight == 4)
    // What was lost arrives late all the same: once.
    #expect(try directory.arrived(7))
    #expect(try !directory.arrived(7))
  }

  @Test(arguments: [-1, 100, 128 - 1, 129, 256, Int.max, Int.min])
  func pagesThatAreNoneAreRefused(page: Int) throws {
    let directory = directory([1])
    #expect(throws: PullRefusal.noSuchPage(page)) { try directory.fault(page) }
    #expect(throws: PullRefusal.noSuchPage(page)) { try directory.arrived(page) }
    #expect(throws: PullRefusal.noSuchPage(page)) { try directory.state(of: page) }
  }

  @Test func namesOfPagesAreChecked() throws {
    let numbering = Self.numbering
    #expect(try numbering.numbers(block: 2, firstPage: 60, count: 4).count == 4)
    for (block, first, count) in [
      (-1, 0, 1), (3, 0, 1), (0, 100, 1), (0, 99, 2), (0, 0, 0), (0, 0, .max), (0, .max, 1),
      (0, .max, .max),
    ] as [(Int, UInt64, UInt64)] {
      #expect(throws: PullRefusal.self) {
        try numbering.numbers(block: block, firstPage: first, count: count)
      }
    }
    let empty = PageNumbering(blockPages: [])
    #expect(!empty.contains(0))
    #expect(throws: PullRefusal.self) { try empty.numbers(block: 0, firstPage: 0, count: 1) }
  }

  /// Hot pages first, those around a fault in between; then all the others.
  @Test func hotPagesAreAskedForFirst() throws {
    let directory = directory(Array(0..<100) + Array(192..<256), inFlightMax: 200, runMax: 4)
    func ahead() -> Range<Int>? {
      guard let run = directory.nextRequest() else { return nil }
      return run.kind == .ahead ? run.pages : nil
    }
    #expect(ahead() == 0..<4)
    try directory.prefer(50..<56, heat: 4)
    try directory.prefer(2..<8, heat: 8)
    try directory.prefer(200..<202, heat: 3)
    try directory.prefer(10..<20, heat: 0)
    // Comes along with its hotter neighbours.
    try directory.prefer(56..<57, heat: 1)
    // What is on its way already is not asked for again.
    #expect(ahead() == 4..<8)
    #expect(ahead() == 50..<54)
    try directory.fault(90)
    #expect(directory.nextRequest() == PullRun(90..<91, .urgent))
    #expect(ahead() == 91..<93)
    #expect(ahead() == 88..<90)
    #expect(ahead() == 54..<57)
    // One that is less hot after those that are hotter.
    #expect(ahead() == 200..<202)
    // None is left: again around the last fault.
    #expect(ahead() == 93..<97)
    // What was lost is hot as before.
    directory.forgetRequests()
    #expect(directory.nextRequest() == PullRun(90..<91, .urgent))
    #expect(ahead() == 2..<6)
    #expect(ahead() == 6..<8)
    for page in 50..<57 { #expect(try directory.arrived(page)) }
    #expect(ahead() == 200..<202)
    while ahead() != nil {}
    // Less than a run more would be allowed.
    #expect((PullPace.pagesAtStart - 3...PullPace.pagesAtStart).contains(directory.inFlight))
  }

  @Test(arguments: [-1..<1, 99..<101, 128..<130, 255..<257, Int.max - 1..<Int.max])
  func hotPagesThatAreNoneAreRefused(pages: Range<Int>) {
    let directory = directory([1])
    #expect(throws: PullRefusal.self) { try directory.prefer(pages, heat: 8) }
  }

  @Test func nothingMissingIsDoneAtOnce() {
    let directory = directory([])
    #expect(directory.isDone && directory.nextRequest() == nil)
  }
}

@Suite struct PullSourceTests {
  private let source = Source(PullSource(numbering: PageNumbering(blockPages: [100, 1])))

  @Test func eachPageGoesOnceInTheOrderOfAsking() throws {
    #expect(source.nextUrgent(limit: 4) == nil && source.nextAhead(limit: 4) == nil)
    try source.request(PullRun(10..<16, .ahead))
    try source.request(PullRun(40..<42, .ahead))
    try source.request(PullRun(12..<13, .urgent))
    try source.request(PullRun(8..<9, .urgent))
    #expect(source.nextUrgent(limit: 4) == 12..<13)
    #expect(source.nextAhead(limit: 2) == 10..<12)
    // Around the page that has gone meanwhile.
    #expect(source.nextAhead(limit: 2) == 13..<15)
    #expect(source.nextUrgent(limit: 4) == 8..<9)
    #expect(source.nextUrgent(limit: 4) == nil)
    #expect(source.nextAhead(limit: 9) == 15..<16)
    // On its way already.
    try source.request(PullRun(15..<16, .urgent))
    #expect(source.nextUrgent(limit: 1) == nil && source.counters.requestedLate == 1)
    #expect(source.nextAhead(limit: 9) == 40..<42)
    #expect(source.nextAhead(limit: 9) == nil)
    #expect(source.counters.urgentPages == 2 && source.counters.aheadPages == 7)
  }

  /// Beside the pages themselves, and once.
  @Test func whatProvesPagesIsGivenOnce() throws {
    #expect(source.nextQuestion(limit: 4) == nil)
    try source.request(PullRun(10..<16, .identities))
    try source.request(PullRun(12..<20, .identities))
    try source.request(PullRun(11..<12, .ahead))
    #expect(source.nextQuestion(limit: 4) == 10..<14)
    #expect(source.nextAhead(limit: 4) == 11..<12)
    #expect(source.nextQuestion(limit: 4) == 14..<16)
    #expect(source.nextQuestion(limit: 9) == 16..<20)
    try source.request(PullRun(10..<20, .identities))
    #expect(source.nextQuestion(limit: 9) == nil)
    // Their pages can be asked for all the same.
    try source.request(PullRun(10..<11, .urgent))
    #expect(source.nextUrgent(limit: 9) == 10..<11)
    source.noteIdentified(3, of: 10)
    #expect(source.counters.identifiedPages == 3 && source.counters.urgentPages == 1)
  }

  /// What the destination makes of what it has takes nothing of the link.
  @Test func pagesThatAreMadeThereDoNotCross() {
    var counters = PullSource.Counters()
    #expect(counters.crossing(of: 1000) == 1000)
    (counters.urgentPages, counters.aheadPages) = (10, 90)
    #expect(counters.crossing(of: 1000) == 900)
    // Nothing of the first 400 is known there, and 100 of them have gone; then three quarters of the next 400 are.
    (counters.answeredPages, counters.identifiedPages) = (400, 0)
    #expect(counters.crossing(of: 1000) == 900)
    (counters.answeredPages, counters.identifiedPages) = (800, 300)
    // 500 were not known, of which 100 went; of the 200 left five eighths are taken not to be.
    #expect(counters.crossing(of: 1000) == 400 + 125)
    // All is proven, but for some that go all the same.
    (counters.answeredPages, counters.identifiedPages) = (1000, 1000)
    #expect(counters.crossing(of: 1000) == 0 && counters.crossing(of: 10) == 0)
  }

  @Test func requestsAreBounded() throws {
    for kind in [PullRun.Kind.urgent, .ahead, .identities] {
      let limit = kind == .urgent ? PullSource.urgentRunsMax : PullSource.aheadRunsMax
      for _ in 0..<limit { try source.request(PullRun(5..<6, kind)) }
      #expect(throws: PullRefusal.tooManyRequests(limit: limit)) {
        try source.request(PullRun(5..<6, kind))
      }
    }
    #expect(source.nextUrgent(limit: 1) == 5..<6)
    #expect(source.nextUrgent(limit: 1) == nil && source.nextAhead(limit: 1) == nil)
    // Answered ones have made room.
    try source.request(PullRun(6..<7, .urgent))
    #expect(source.nextUrgent(limit: 1) == 6..<7)
  }

  @Test(arguments: [-1..<1, 0..<101, 99..<129, 100..<101, 128..<130, Int.max - 1..<Int.max])
  func pagesThatAreNoneAreRefused(pages: Range<Int>) throws {
    for kind in [PullRun.Kind.ahead, .urgent, .identities] {
      #expect(throws: PullRefusal.self) {
        try source.request(PullRun(pages, kind))
      }
    }
  }
}
