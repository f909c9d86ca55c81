import Base
import Strategy
import Testing

/// Pages of a pull that the destination makes itself: `PullDirectory` with `mayBeMade`.
@Suite struct PullLocalTests {
  static let numbering = PageNumbering(blockPages: [4000])

  /// By reference: `#expect` takes no calls that change a value.
  private final class Directory {
    private var machine: PullDirectory
    var nowUs: UInt64 = 0

    init(_ invalid: Range<Int>, local: Range<Int>?) {
      var pages = PageBitmap(count: PullLocalTests.numbering.limit)
      for page in invalid { pages[page] = true }
      machine = PullDirectory(
        numbering: PullLocalTests.numbering, invalid: pages, pace: PullPace(pagesMax: 8),
        runMax: 4)
      let candidates = local.map { local in
        var candidates = PageBitmap(count: PullLocalTests.numbering.limit)
        for page in local { candidates[page] = true }
        return candidates
      }
      machine.mayBeMade(candidates)
    }

    var counters: PullDirectory.Counters { machine.counters }
    var missingCount: Int { machine.missingCount }
    var mayMakeMore: Bool { machine.mayMakeMore }
    func next() -> PullRun? { machine.nextRequest(nowUs: nowUs) }
    /// Everything that is to be asked for now.
    func all() -> [PullRun] {
      var runs: [PullRun] = []
      while let run = next() { runs.append(run) }
      return runs
    }
    func fault(_ page: Int) throws { try machine.fault(page, nowUs: nowUs) }
    func state(of page: Int) throws -> PullPageState { try machine.state(of: page) }
    func identified(_ page: Int, _ isKnown: Bool = true) throws -> Bool {
      try machine.identified(page, isKnown: isKnown)
    }
    func take(urgent: Bool = false, limit: Int = 100) -> [Int] {
      machine.takeToMake(isUrgent: urgent, limit: limit, nowUs: nowUs)
    }
    func arrived(_ page: Int, _ origin: PullOrigin = .source) throws -> Bool {
      try machine.arrived(page, from: origin, nowUs: nowUs)
    }
    func failed(_ page: Int) throws { try machine.failed(page) }
    func forgetRequests() { machine.forgetRequests() }
  }

  @Test func whatMayBeHereIsAskedAboutBeforeItIsAskedFor() throws {
    let directory = Directory(0..<20, local: 8..<16)
    #expect(
      directory.all() == [
        PullRun(8..<12, .identities), PullRun(12..<16, .identities),
        PullRun(0..<4, .ahead), PullRun(4..<8, .ahead),
      ])
    #expect(directory.missingCount == 20)
    #expect(try directory.state(of: 8) == .wanted)
    #expect(try directory.identified(8))
    #expect(try !directory.identified(9, false))
    // Nobody asked, or it was answered before.
    for page in [0, 8, 9, 19, 30] { #expect(try !directory.identified(page)) }
    #expect(directory.take(urgent: true) == [] && directory.take() == [8] && directory.take() == [])
    #expect(try directory.arrived(8, .snapshot))
    #expect(try directory.state(of: 8) == .placed)
    #expect(try !directory.arrived(8, .snapshot))
    // What isn't here goes with the others: there is room once something has come.
    for page in 0..<8 { #expect(try directory.arrived(page)) }
    #expect(directory.all().first == PullRun(9..<10, .ahead))
    #expect(directory.counters.ofSnapshot == 1 && directory.counters.placedMade == 1)
    #expect(directory.counters.placed == 9 && directory.counters.duplicates == 1)
  }

  @Test func faultsAreAnsweredHereWhereTheProofIsHere() throws {
    let directory = Directory(0..<8, local: nil)
    #expect(directory.all() == [PullRun(0..<4, .identities), PullRun(4..<8, .identities)])
    for page in [1, 2, 3] { #expect(try directory.identified(page)) }
    #expect(directory.take(limit: 1) == [1])
    for page in [3, 1, 6] { try directory.fault(page) }
    // 6 has no proof yet: the source has it sooner. 1 is being made, 3 goes before 2.
    #expect(directory.all() == [PullRun(6..<7, .urgent)])
    #expect(directory.take(urgent: true) == [3] && directory.take() == [2])
    #expect(try directory.arrived(3, .disk))
    #expect(try directory.arrived(1, .snapshot))
    // It comes too late.
    #expect(try !directory.identified(6))
    #expect(try directory.arrived(6))
    #expect(directory.counters.faults == 3 && directory.counters.placedForFaults == 3)
    #expect(directory.counters.madeForFaults == 2 && directory.counters.ofDisk == 1)
  }

  /// One that the guest waits for goes before others, as if it had never been here.
  @Test func whatCannotBeMadeIsAskedFor() throws {
    let directory = Directory(0..<8, local: nil)
    _ = directory.all()
    for page in 0..<8 { #expect(try directory.identified(page)) }
    #expect(directory.take() == Array(0..<8))
    try directory.fault(5)
    #expect(directory.all() == [])
    for page in [2, 5] { try directory.failed(page) }
    #expect(directory.all() == [PullRun(5..<6, .urgent), PullRun(2..<3, .ahead)])
    // One that failed before its turn came is asked for once.
    try directory.fault(7)
    try directory.failed(7)
    #expect(directory.all() == [PullRun(7..<8, .urgent)])
    #expect(directory.counters.unmade == 3)
    // The source sends on its own what is being made.
    #expect(try directory.arrived(0))
    try directory.failed(0)
    #expect(try !directory.arrived(0, .snapshot))
    #expect(directory.counters.unmade == 3)
  }

  /// Who makes pages may never answer. The guest has them from whoever is first, and once.
  @Test func whatTheGuestWaitsForTooLongIsAskedFor() throws {
    let directory = Directory(0..<8, local: nil)
    _ = directory.all()
    for page in 0..<8 { #expect(try directory.identified(page)) }
    #expect(directory.take(limit: 2) == [0, 1])
    // One is being made, the other waits for its turn.
    for page in [1, 3] { try directory.fault(page) }
    directory.nowUs = 49_999
    #expect(directory.all() == [])
    directory.nowUs = 50_000
    // The link has nothing else to do, so it helps with what nobody has begun, from the end.
    #expect(
      directory.all() == [
        PullRun(1..<2, .urgent), PullRun(3..<4, .urgent), PullRun(4..<8, .ahead),
        PullRun(2..<3, .ahead),
      ])
    #expect(directory.take(urgent: true) == [])
    #expect(try directory.arrived(1, .snapshot))
    #expect(try !directory.arrived(1))
    #expect(try directory.arrived(3))
    #expect(directory.take() == [])
    #expect(try directory.arrived(0, .snapshot))
    for page in [2, 4, 5, 6, 7] { #expect(try directory.arrived(page)) }
    #expect(directory.missingCount == 0 && !directory.mayMakeMore)
    #expect(directory.counters.placedForFaults == 2 && directory.counters.madeForFaults == 1)
    #expect(directory.counters.duplicates == 1 && directory.counters.placed == 8)
  }

  @Test(arguments: [false, true]) func aMakerThatStandsStillKeepsNothing(isUrgent: Bool) throws {
    let directory = Directory(0..<4000, local: nil)
    _ = directory.all()
    for page in 0..<8 { #expect(try directory.identified(page)) }
    if isUrgent { for page in 0..<4 { try directory.fault(page) } }
    #expect(directory.take(urgent: isUrgent, limit: 4) == [0, 1, 2, 3])
    directory.nowUs = 1_999_999
    let urgent = directory.all().filter { $0.kind != .identities }
    #expect(urgent == (isUrgent ? (0..<4).map { PullRun($0..<($0 + 1), .urgent) } : []))
    directory.nowUs = 2_000_000
    let rest = isUrgent ? [4..<8] : [0..<4, 4..<8]
    let left = directory.all().filter { $0.kind == .ahead }.map(\.pages)
    #expect(Array(left.prefix(rest.count)) == rest)
    for page in 0..<8 { #expect(try directory.arrived(page)) }
    // From now on nobody is asked about pages; the link brings them.
    let more = directory.all()
    #expect(!more.isEmpty && more.allSatisfy { $0.kind == .ahead && $0.pages.lowerBound > 3900 })
    // It comes back, for nothing, and goes on.
    #expect(try !directory.arrived(0, .disk))
    try directory.failed(1)
    #expect(directory.counters.unmade == 0 && directory.counters.duplicates == 1)
    #expect(directory.take(urgent: isUrgent) == [])
    #expect(directory.all().contains { $0.kind == .identities })
  }

  @Test func questionsAreBounded() throws {
    let directory = Directory(0..<4000, local: nil)
    let asked = directory.all()
    #expect(asked.allSatisfy { $0.kind == .identities })
    #expect(asked.reduce(0) { $0 + $1.pages.count } == 1024)
    // Proofs that wait count as well; with many of them the link takes pages from the other end.
    for page in 0..<600 { #expect(try directory.identified(page)) }
    #expect(directory.all() == [PullRun(3996..<4000, .ahead), PullRun(3992..<3996, .ahead)])
    #expect(directory.take(limit: 4) == [0, 1, 2, 3])
    for page in 0..<4 { #expect(try directory.arrived(page, .disk)) }
    #expect(directory.all() == [PullRun(1024..<1028, .identities)])
  }

  @Test func whatFailsTooOftenIsGivenUp() throws {
    let directory = Directory(0..<4000, local: nil)
    _ = directory.all()
    for page in 0..<400 { #expect(try directory.identified(page)) }
    #expect(directory.take(limit: 400).count == 400)
    for page in 0..<255 { try directory.failed(page) }
    // There is room for more questions.
    let more = directory.all().filter { $0.kind == .identities }.reduce(0) { $0 + $1.pages.count }
    #expect(more > 0)
    try directory.failed(255)
    for page in 0..<256 { #expect(try directory.arrived(page)) }
    var kinds: Set<PullRun.Kind> = []
    var count = 0
    while let run = directory.next() {
      kinds.insert(run.kind)
      count += run.pages.count
      for page in run.pages { #expect(try directory.arrived(page)) }
    }
    // Everything that nobody had asked about.
    #expect(kinds == [.ahead] && count == 4000 - 1024 - more)
  }

  @Test func afterABreakQuestionsAreAskedAgain() throws {
    let directory = Directory(0..<12, local: nil)
    _ = directory.all()
    for page in 0..<4 { #expect(try directory.identified(page)) }
    #expect(directory.take(limit: 2) == [0, 1])
    directory.forgetRequests()
    #expect(directory.all() == [PullRun(4..<8, .identities), PullRun(8..<12, .identities)])
    // What was known is made, whatever became of the connection.
    #expect(directory.take() == [2, 3])
    for page in 0..<4 { #expect(try directory.arrived(page, .snapshot)) }
    #expect(directory.missingCount == 8 && directory.mayMakeMore)
  }

  @Test func nothingChangesWhereNothingIsHere() throws {
    let directory = Directory(0..<8, local: 100..<200)
    #expect(!directory.mayMakeMore)
    #expect(directory.all() == [PullRun(0..<4, .ahead), PullRun(4..<8, .ahead)])
  }

  @Test(arguments: [-1, 4000, Int.max, Int.min])
  func pagesThatAreNoneAreRefused(page: Int) throws {
    let directory = Directory(0..<8, local: nil)
    #expect(throws: PullRefusal.noSuchPage(page)) { try directory.identified(page) }
    #expect(throws: PullRefusal.noSuchPage(page)) { try directory.failed(page) }
  }
}
