import Base
import Foundation
import Strategy
import Testing

/// A pull over a link of `pagesPerSecond` and a round trip of `roundTripUs`, in virtual time: the guest faults
/// every `faultEveryUs`.
private struct PullLink {
  let pagesPerSecond: UInt64
  let roundTripUs: UInt64
  private let jitterUs: Double
  private var jitter = SplitMix64(seed: 1)
  private var lastAtUs: UInt64 = 0
  var directory: PullDirectory
  private var nowUs: UInt64 = 1
  private var freeAtUs: UInt64 = 0
  /// Pages on their way, in order of arrival.
  private var onTheWay: [(page: Int, atUs: UInt64)] = []
  private var next = 0
  /// When each page that the guest waits for was asked for.
  private var faultAtUs: [Int: UInt64] = [:]
  /// How long faults waited, once the first second was over.
  var waitsUs: [UInt64] = []

  /// - Parameter jitterUs: by how much answers are late on average, each by chance; they don't overtake each other.
  init(pagesPerSecond: UInt64, roundTripUs: UInt64, pageCount: Int = 400_000, jitterUs: Double = 0)
  {
    (self.pagesPerSecond, self.roundTripUs) = (pagesPerSecond, roundTripUs)
    self.jitterUs = jitterUs
    let numbering = PageNumbering(blockPages: [pageCount])
    var invalid = PageBitmap(count: numbering.limit)
    for page in 0..<pageCount { invalid[page] = true }
    directory = PullDirectory(numbering: numbering, invalid: invalid)
  }

  /// Returns the microseconds until everything was there.
  mutating func run(faultEveryUs: UInt64, seed: UInt64) throws -> UInt64 {
    var random = SplitMix64(seed: seed)
    var faultNextUs = faultEveryUs
    ask()
    while !directory.isDone {
      let arrivalUs = next < onTheWay.count ? onTheWay[next].atUs : .max
      if faultNextUs <= arrivalUs {
        nowUs = faultNextUs
        faultNextUs += faultEveryUs
        let page = Int.random(in: 0..<directory.numbering.limit, using: &random)
        if try directory.state(of: page) == .wanted {
          try directory.fault(page, nowUs: nowUs)
          faultAtUs[page] = nowUs
        }
      } else {
        let page = onTheWay[next].page
        next += 1
        nowUs = arrivalUs
        #expect(try { try directory.arrived(page, nowUs: nowUs) }())
        if let since = faultAtUs[page], since > 1_000_000 { waitsUs.append(nowUs - since) }
      }
      ask()
    }
    return nowUs
  }

  /// The source's answers stand in one queue: what is urgent overtakes nothing that has been sent.
  private mutating func ask() {
    while let run = directory.nextRequest(nowUs: nowUs) {
      let late =
        jitterUs > 0 ? UInt64(-log(Double.random(in: 1e-6..<1, using: &jitter)) * jitterUs) : 0
      for page in run.pages {
        freeAtUs = max(freeAtUs, nowUs + roundTripUs / 2) + 1_000_000 / pagesPerSecond
        lastAtUs = max(lastAtUs, freeAtUs + roundTripUs / 2 + late)
        onTheWay.append((page, lastAtUs))
      }
    }
  }
}

@Suite struct PullPaceTests {
  /// A near link at 1 Gbit/s, one across a continent, a fast near one.
  @Test(arguments: [(30_000, 300), (30_000, 50_000), (250_000, 200)] as [(UInt64, UInt64)])
  func theLinkIsBusyAndFaultsWaitLittle(pagesPerSecond: UInt64, roundTripUs: UInt64) throws {
    var link = PullLink(pagesPerSecond: pagesPerSecond, roundTripUs: roundTripUs)
    let tookUs = try link.run(faultEveryUs: 3000, seed: 7)
    let leastUs = 400_000 * 1_000_000 / pagesPerSecond
    #expect(tookUs < leastUs * 5 / 4, "\(link.directory.pace.pages) pages ahead at the end")
    let waits = link.waitsUs.sorted()
    try #require(waits.count > 20)
    // The round trip, what may stand before it (2 ms or an eighth), and as much again for what is unsteady.
    let bound = roundTripUs + 2 * max(2000, roundTripUs / 8)
    #expect(waits[waits.count * 9 / 10] < bound, "90 % within \(waits[waits.count * 9 / 10]) µs")
  }

  /// 20 ms each way and 60 MB/s between busy hosts: answers that come unevenly are no queue.
  @Test(arguments: [5000, 15_000, 30_000] as [Double])
  func unevenAnswersKeepTheLinkBusy(jitterUs: Double) throws {
    var link = PullLink(
      pagesPerSecond: 15_000, roundTripUs: 40_000, pageCount: 200_000, jitterUs: jitterUs)
    let tookUs = try link.run(faultEveryUs: 3000, seed: 7)
    let leastUs: UInt64 = 200_000 * 1_000_000 / 15_000
    #expect(tookUs < leastUs * 4, "\(link.directory.pace.pages) pages ahead at the end")
  }

  /// The first answers came over an idle link; then each takes 10 ms, whatever is on its way.
  @Test func aWayThatBecomesLongerIsFilledAgain() throws {
    let numbering = PageNumbering(blockPages: [200_000])
    var invalid = PageBitmap(count: numbering.limit)
    for page in 0..<200_000 { invalid[page] = true }
    var directory = PullDirectory(numbering: numbering, invalid: invalid)
    var nowUs: UInt64 = 0
    var most = 0
    for round in 0..<200 {
      var asked: [Int] = []
      while let run = directory.nextRequest(nowUs: nowUs) { asked += run.pages }
      nowUs += round < 3 ? 300 : 10_000
      for page in asked { _ = try directory.arrived(page, nowUs: nowUs) }
      if round > 100 { most = max(most, directory.pace.pages) }
    }
    #expect(most > 4 * PullPace.pagesMin, "\(directory.pace.pages) pages ahead at the end")
  }

  @Test func aBrokenConnectionBeginsAnew() throws {
    let numbering = PageNumbering(blockPages: [10_000])
    var invalid = PageBitmap(count: numbering.limit)
    for page in 0..<10_000 { invalid[page] = true }
    var directory = PullDirectory(numbering: numbering, invalid: invalid)
    var nowUs: UInt64 = 0
    for _ in 0..<4 {
      var asked: [Int] = []
      while let run = directory.nextRequest(nowUs: nowUs) { asked += run.pages }
      nowUs += 500
      for page in asked { _ = try directory.arrived(page, nowUs: nowUs) }
    }
    #expect(directory.pace.pages > PullPace.pagesAtStart)
    directory.forgetRequests()
    #expect(directory.pace.pages == PullPace.pagesAtStart)
  }
}
