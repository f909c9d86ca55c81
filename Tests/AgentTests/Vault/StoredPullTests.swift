import Base
import Compaction
import HostIO
import QEMUStream
import Strategy
import Testing
import Wire

@testable import Agent

/// Pages of a pull that a vault has at other places, or of another guest.
@Suite(.timeLimit(.minutes(3))) struct StoredPullTests {
  private typealias Shelf = ElsewhereRelayTests.Shelf
  private static let block = ElsewhereRelayTests.block
  private static let pages = 0..<ElsewhereRelayTests.pageCount

  /// What the source says of every page of the guest.
  private func identities(_ shelf: Shelf, namesStored: Bool = true) throws -> [PullIdentity] {
    var identifier = try #require(
      PullIdentifier(held: shelf.held, disks: nil, namesStored: namesStored))
    identifier.blocks = [Self.block]
    return Self.pages.flatMap { page in
      let content = ElsewhereRelayTests.content(page)
      return identifier.identities(
        block: 0, firstPage: UInt64(page), of: content.span.bytes)
    }
  }

  /// Makes the pages in batches, as a feeder does, and says where each comes from.
  private func make(
    _ identities: [PullIdentity], _ local: LocalPages
  ) throws -> [PullOrigin?] {
    var origins: [PullOrigin?] = []
    let buffer = PageBuffer(byteCount: LocalPages.batchPages * Page.size)
    for first in stride(from: 0, to: identities.count, by: LocalPages.batchPages) {
      let batch = Array(first..<min(first + LocalPages.batchPages, identities.count))
      for page in batch {
        #expect(local.isAgreedOn(identities[page]))
        local.keep(identities[page], of: page)
      }
      let made = try local.make(batch, into: buffer)
      for (index, page) in batch.enumerated() where made[index] != nil {
        let content = Array(buffer.part(index * Page.size, Page.size))
        #expect(content == ElsewhereRelayTests.content(page), "page \(page)")
      }
      origins += made
    }
    return origins
  }

  @Test func pagesThatMovedAreMadeHere() throws {
    let shelf = try Shelf(inPlace: false)
    let said = try identities(shelf)
    for page in Self.pages {
      switch (page % 4, said[page]) {
      case (0, .held), (1, .vault), (2, .vault), (3, .unknown): break
      default: Issue.record("page \(page): \(said[page])")
      }
    }
    let local = try #require(
      LocalPages(snapshot: shelf.snapshot, images: nil, vault: shelf.vault, blocks: [Self.block]))
    // Whatever is missing is asked about: it may lie anywhere.
    #expect(local.candidates == nil)
    let origins = try make(said, local)
    let expected: [PullOrigin?] = [.snapshot, .vault, .vault, nil]
    #expect(origins == Self.pages.map { expected[$0 % 4] })
    #expect(shelf.used.read { $0.count } == 1)
  }

  /// To a destination that knows of pages at the same place alone nothing else is said.
  @Test func anOlderDestinationHearsOfTheSamePlaceAlone() throws {
    let shelf = try Shelf(inPlace: false)
    let said = try identities(shelf, namesStored: false)
    #expect(said.count { if case .held = $0 { true } else { false } } == 60)
    #expect(said.count { $0 == .unknown } == 180)
    let local = try #require(
      LocalPages(snapshot: shelf.snapshot, images: nil, blocks: [Self.block]))
    #expect(!local.isAgreedOn(.vault(VaultNote(snapshot: 0, page: 1, identity: Self.proof))))
    #expect(local.candidates?.population == Self.pages.count)
  }

  private static let proof = [UInt8](repeating: 7, count: 32)

  /// What is stored is not what the source says: none is made. A page that nobody offered breaks the protocol.
  @Test func whatIsNotProvenIsNotMade() throws {
    let shelf = try Shelf(inPlace: false)
    let local = try #require(
      LocalPages(snapshot: nil, images: nil, vault: shelf.vault, blocks: [Self.block]))
    let said = try identities(shelf).map { identity -> PullIdentity in
      guard case .vault(let note) = identity else { return .unknown }
      return .vault(VaultNote(snapshot: note.snapshot, page: note.page, identity: Self.proof))
    }
    #expect(try make(said, local).allSatisfy { $0 == nil })
    let buffer = PageBuffer(byteCount: Page.size)
    for note in [
      VaultNote(snapshot: 2, page: 0, identity: Self.proof),
      VaultNote(snapshot: 1, page: 240, identity: Self.proof),
    ] {
      local.keep(.vault(note), of: 5)
      #expect(throws: RelayFailure.self) { try local.make([5], into: buffer) }
    }
  }

  /// They go to QEMU like any other page, once, and are counted by themselves.
  @Test func theyAreCounted() async throws {
    let shelf = try Shelf(inPlace: false)
    let said = try identities(shelf)
    let (qemu, far) = try Sockets.unixPair()
    let events = Events<PullFeeder.Event>()
    var invalid = PageBitmap(
      count: PageNumbering(blockPages: [ElsewhereRelayTests.pageCount]).limit)
    for page in Self.pages where page % 4 < 3 { invalid[page] = true }
    let feeder = try PullFeeder(
      qemu: qemu, blocks: [Self.block], sectionID: 2, invalid: invalid,
      local: LocalPages(
        snapshot: shelf.snapshot, images: nil, vault: shelf.vault, blocks: [Self.block]),
      ask: { _ in }, onEvent: { events.add($0) })
    _ = WorkerThread("qemu") {
      let buffer = PageBuffer(byteCount: 1 << 16)
      while let count = try? far.read(into: buffer.part(0, buffer.byteCount)), count > 0 {}
    }
    try await Blocking.run {
      defer {
        far.shutdown()
        feeder.stop()
      }
      feeder.beginLocal()
      try feeder.resume(ReturnPathSoFar())
      for first in stride(from: 0, to: Self.pages.count, by: 60) {
        try feeder.identified(
          PullIdentities(
            block: 0, firstPage: UInt64(first), identities: Array(said[first..<first + 60])))
      }
      while feeder.counters.ofVault == 0 || feeder.counters.ofSnapshot == 0 {
        MonotonicClock.sleep(us: 1000)
      }
      // What nobody asked about comes from the source.
      let done = events.first(timeoutMs: 3000) {
        if case .complete(let done) = $0 { done } else { nil }
      }
      if done == nil {
        let run = PageRun(block: 0, pageClass: .zero, firstPage: 0, count: 240)
        try feeder.arrived(
          BatchHeader(place: SequencedHeader(sequence: 0, after: 0), runs: [run]), nil)
      }
      let end = events.first { if case .complete(let done) = $0 { done } else { nil } }
      #expect(end?.placedPages == 180, "\(feeder.counters)")
      #expect((end?.vaultPages ?? 0) > 0 && end?.vaultPages == UInt64(feeder.counters.ofVault))
      #expect((end?.snapshotPages ?? 0) > 0 && feeder.counters.unmade == 0)
    }
  }
}
