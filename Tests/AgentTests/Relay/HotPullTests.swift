import Base
import HostIO
import QEMUStream
import Strategy
import Testing
import Wire

@testable import Agent

/// A pull in which the source says what the guest has written most of late.
@Suite(.timeLimit(.minutes(3))) struct HotPullTests {
  static let pageCount = 4096
  static let block = RAMBlock(name: "mem0", length: UInt64(pageCount) << 12)
  /// Far from where a pull begins.
  static let hot = 3500..<3600

  /// A guest of which everything is owed, and some pages are hot.
  private func ledger() -> PageLedger {
    var ledger = PageLedger(blockPages: [Self.pageCount])
    for page in 0..<Self.pageCount { ledger.note(page, isZero: false) }
    while let page = ledger.nextFresh() { _ = ledger.take(page) }
    for page in 0..<Self.pageCount { ledger.note(page, isZero: false) }
    for _ in 0..<8 { _ = ledger.endEpoch() }
    for _ in 0..<5 {
      for page in Self.hot { ledger.note(page, isZero: false) }
      _ = ledger.endEpoch()
    }
    return ledger
  }

  @Test func hotPagesAreAskedForFirst() async throws {
    let guest = try KeptGuest([Self.block])
    let memory = StoppedMemory(
      numbering: PageNumbering(blockPages: [Self.pageCount]), places: guest.files.map { .file($0) })
    let frames = PullHeat.frames(of: ledger())
    #expect(frames == [PullHeat(block: 0, heat: 4, runs: [3500..<3600])])
    let (qemu, far) = try Sockets.unixPair()
    let (asked, events) = (Events<[PullRequest]>(), Events<PullFeeder.Event>())
    let port = PullPort(onEvent: { _ in }, onFailure: { events.add(.failed($0)) })
    let server = PullServer(
      memory: memory, heat: { frames }, laneCount: 1,
      recovery: LaneRecovery(
        patienceMs: { 60_000 },
        dial: { _, lane in
          let (near, far) = try Sockets.tcpPair()
          _ = port.attach(far, lane: lane)
          return near
        }),
      bytesWritten: Guarded(0), onEvent: { _ in })
    var invalid = PageBitmap(count: memory.numbering.limit)
    for page in 0..<Self.pageCount { invalid[page] = true }
    let feeder = try PullFeeder(
      qemu: qemu, blocks: [Self.block], sectionID: 2, invalid: invalid,
      ask: { (requests) throws(RelayFailure) in
        asked.add(requests)
        port.ask(requests)
      },
      onEvent: { event in
        if case .complete(let done) = event { port.finished(done) }
        events.add(event)
      })
    _ = WorkerThread("qemu") {
      let buffer = PageBuffer(byteCount: 1 << 16)
      while let count = try? far.read(into: buffer.part(0, buffer.byteCount)), count > 0 {}
    }
    try await Blocking.run {
      defer {
        server.stop()
        port.stop()
        far.shutdown()
        feeder.stop()
      }
      try server.connect()
      server.start()
      port.begin(feeder)
      try feeder.resume(ReturnPathSoFar())
      let done = events.first { if case .complete(let done) = $0 { done } else { nil } }
      #expect(done?.placedPages == UInt64(Self.pageCount))
      for case .failed(let failure) in events.all { Issue.record("\(failure)") }
    }
    // What the pull began with was asked for before the source had said anything.
    let pages = asked.all.joined().flatMap { request in
      (0..<Int(request.count)).map { Int(request.firstPage) + $0 }
    }
    let last = try #require(pages.lastIndex { Self.hot.contains($0) })
    #expect(last < PullPace.pagesAtStart + Self.hot.count, "\(last)")
  }

  @Test func hotPagesOutsideOfRAMAreRefused() throws {
    let (qemu, _) = try Sockets.unixPair()
    let feeder = try PullFeeder(
      qemu: qemu, blocks: [Self.block], sectionID: 2,
      invalid: PageBitmap(count: PageNumbering(blockPages: [Self.pageCount]).limit),
      ask: { _ in }, onEvent: { _ in })
    for bad in [
      PullHeat(block: 1, heat: 8, runs: [0..<1]), PullHeat(block: 0, heat: 8, runs: [4096..<4097]),
      PullHeat(block: 0, heat: 8, runs: [0..<1, 4000..<4097]),
    ] {
      #expect(throws: RelayFailure.self) { try feeder.prefer(bad) }
    }
  }

  /// Frames hold one block each, and no more than their limits.
  @Test func framesAreCut() {
    var ledger = PageLedger(blockPages: [100, 200_000])
    for _ in 0..<2 {
      for (block, count) in [(0, 100), (1, 200_000)] {
        for page in 0..<count where block == 0 || page < 150_000 {
          ledger.note(ledger.numbering.number(block: block, page: page), isZero: false)
        }
      }
    }
    let frames = PullHeat.frames(of: ledger)
    #expect(frames.allSatisfy { $0.heat == 1 })
    #expect(frames.map(\.block) == [0, 1, 1, 1])
    #expect(
      frames.map(\.runs) == [
        [0..<100], [0..<65_536], [65_536..<131_072], [131_072..<150_000],
      ])
  }
}
