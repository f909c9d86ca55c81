import Base
import HostIO
import QEMUStream
import Strategy
import Testing
import Wire

@testable import Agent

/// Pages of a pull that would be made of a disk which doesn't answer.
@Suite(.timeLimit(.minutes(3))) struct StuckMakerTests {
  static let block = RAMBlock(name: "mem0", length: 64 << 12)

  /// Makes every page, but not before it is let go.
  private final class StuckMaker: PageMaker {
    private let isFree = Guarded(false)
    let taken = Guarded<Set<Int>>([])
    let isBack = Guarded(false)

    var candidates: PageBitmap? { nil }
    func isAgreedOn(_ identity: PullIdentity) -> Bool { true }
    func keep(_ proof: PullIdentity, of page: Int) {}
    func forget(_ pages: Range<Int>) {}
    func make(_ pages: [Int], into buffer: PageBuffer) throws(RelayFailure) -> [PullOrigin?] {
      taken.update { $0.formUnion(pages) }
      _ = isFree.wait { $0 ? true : nil }
      isBack.update { $0 = true }
      return pages.map { _ in .snapshot }
    }

    func letGo() { isFree.update { $0 = true } }
  }

  /// Everything comes from the source then, what the guest waits for first; and what the disk has after all is dropped.
  @Test func thePullGoesOnWithoutIt() async throws {
    let (qemu, far) = try Sockets.unixPair()
    let (asked, events) = (Events<[PullRequest]>(), Events<PullFeeder.Event>())
    var invalid = PageBitmap(count: PageNumbering(blockPages: [64]).limit)
    for page in 0..<64 { invalid[page] = true }
    let maker = StuckMaker()
    let feeder = try PullFeeder(
      qemu: qemu, blocks: [Self.block], sectionID: 2, invalid: invalid, local: maker,
      ask: { (requests) throws(RelayFailure) in asked.add(requests) }, onEvent: { events.add($0) })
    try await Blocking.run {
      defer { far.shutdown() }
      feeder.beginLocal()
      try feeder.resume(ReturnPathSoFar())
      try feeder.identified(
        PullIdentities(
          block: 0, firstPage: 0, identities: Array(repeating: .held([]), count: 8)))
      #expect(maker.taken.wait(timeoutMs: 20_000) { $0.count == 8 ? true : nil } == true)
      var message: [UInt8] = []
      ReturnPathMessage.requestPages(start: 3 << 12, length: 4096, block: "mem0")
        .encode(into: &message)
      try far.writeAll(message.span.bytes)
      // With the thread that makes it for the guest held up, too.
      let isAsked = asked.first { requests in
        requests.contains { $0.kind == .urgent && $0.firstPage == 3 } ? true : nil
      }
      #expect(isAsked == true)
      let areAsked = asked.first { requests in
        requests.contains { $0.kind == .ahead && $0.firstPage == 0 } ? true : nil
      }
      #expect(areAsked == true)
      let run = PageRun(block: 0, pageClass: .zero, firstPage: 0, count: 64)
      try feeder.arrived(
        BatchHeader(place: SequencedHeader(sequence: 0, after: 0), runs: [run]), nil)
      #expect(feeder.missingCount == 0 && feeder.counters.placedForFaults == 1)
      let done = events.first { if case .complete(let done) = $0 { done } else { nil } }
      #expect(done?.placedPages == 64 && done?.snapshotPages == 0)
      for case .failed(let failure) in events.all { Issue.record("\(failure)") }
      // Nothing waits for the disk at the end, either.
      feeder.stop()
      #expect(!maker.isBack.read { $0 })
      maker.letGo()
      #expect(maker.isBack.wait(timeoutMs: 20_000) { $0 ? true : nil } == true)
      #expect(feeder.makers.wait(timeoutMs: 20_000) { $0 == 0 ? true : nil } == true)
      #expect(feeder.counters.placed == 64)
    }
  }
}
