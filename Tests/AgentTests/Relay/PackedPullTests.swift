import Base
import Compaction
import HostIO
import QEMUStream
import QMP
import Strategy
import Testing
import Wire

@testable import Agent

/// Pages of a pull that go packed when nobody waits for them yet.
@Suite(.timeLimit(.minutes(1))) struct PackedPullTests {
  static let pageCount = 256
  static let block = RAMBlock(name: "mem0", length: UInt64(pageCount) << 12)

  /// By number: zeros, one word repeated, text, and bytes drawn by lot, in turn.
  static func content(_ page: Int) -> [UInt8] {
    switch page % 4 {
    case 0: [UInt8](repeating: 0, count: Page.size)
    case 1: (0..<Page.size).map { UInt8($0 & 7 | 8) }
    case 2: text(page)
    default: KeptGuest.content(page, seed: 5)
    }
  }

  static func text(_ page: Int) -> [UInt8] {
    let line = Array("page \(page) of a guest's memory is like the others; ".utf8)
    return (0..<Page.size).map { line[$0 % line.count] }
  }

  private let guest: KeptGuest
  private let memory: StoppedMemory

  init() throws {
    let guest = try KeptGuest([Self.block])
    for page in 0..<Self.pageCount {
      try Self.content(page).withUnsafeBytes {
        try guest.files[0].write($0, at: UInt64(page) << 12)
      }
    }
    memory = StoppedMemory(
      numbering: PageNumbering(blockPages: [Self.pageCount]), places: guest.files.map { .file($0) })
    self.guest = guest
  }

  private struct Outcome: Sendable {
    /// Frames of what was asked for ahead.
    var packed = 0
    var plain = 0
    var given = PullTally()
    var wireBytes: UInt64 = 0
  }

  /// Takes pages in the place of a destination, the third of them as one that the guest waits for.
  ///
  /// - Parameter step: one page of so many.
  private func pull(_ packing: PullPacking?, every step: Int = 1) async throws -> Outcome {
    let memory = self.memory
    return try await Blocking.run { try Self.pull(memory, packing, every: step) }
  }

  private static func pull(
    _ memory: StoppedMemory, _ packing: PullPacking?, every step: Int
  ) throws -> Outcome {
    let (far, events) = (Guarded<[UInt16: PullLane]>([:]), Events<PullServer.Event>())
    let wireBytes = Guarded<UInt64>(0)
    let server = PullServer(
      memory: memory, packing: packing, laneCount: 1,
      recovery: LaneRecovery(
        patienceMs: { 60_000 },
        dial: { _, lane in
          let (near, other) = try Sockets.tcpPair()
          far.update { $0[lane] = PullLane(other) }
          return near
        }),
      bytesWritten: wireBytes, onEvent: { events.add($0) })
    try server.connect()
    defer { server.stop() }
    server.start()
    let lanes = far.read { $0 }
    let (urgent, ahead) = (try #require(lanes[0]), try #require(lanes[1]))
    let wanted = Array(stride(from: 0, to: pageCount, by: step))
    try urgent.send([PullRequest(block: 0, kind: .urgent, firstPage: UInt64(wanted[2]), count: 1)])
    let unpacking = PageUnpacking()
    var (seen, outcome) = (Set<Int>(), Outcome())
    func take(_ lane: PullLane) throws {
      switch try #require(try lane.receive()) {
      case .pages(let header, let buffer):
        check(header, buffer, &seen)
        if lane === ahead { outcome.plain += 1 }
      case .packed(let header, let body):
        #expect(lane === ahead, "the guest waits for it")
        outcome.packed += 1
        let pages = try unpacking.unpack(header, body)
        check(header.batch, pages, &seen)
        unpacking.giveBack(pages)
      default: Issue.record("something else")
      }
    }
    try take(urgent)
    #expect(seen == [wanted[2]])
    for part in stride(from: 0, to: wanted.count, by: 64) {
      try urgent.send(
        wanted[part..<min(part + 64, wanted.count)].map {
          PullRequest(block: 0, kind: .ahead, firstPage: UInt64($0), count: 1)
        })
    }
    while seen.count < wanted.count {
      try take(ahead)
      try urgent.sendHeartbeat()
    }
    #expect(seen == Set(wanted))
    try urgent.send(PullDone(placedPages: UInt64(seen.count)))
    let isDone = events.first { event -> Bool? in if case .done = event { true } else { nil } }
    #expect(isDone == true)
    (outcome.given, outcome.wireBytes) = (server.given, wireBytes.read { $0 })
    return outcome
  }

  /// The pages are the guest's, and each comes once.
  private static func check(
    _ header: BatchHeader, _ buffer: PageBuffer?, _ seen: inout Set<Int>
  ) {
    var place = 0
    for run in header.runs {
      for page in Int(run.firstPage)..<Int(run.firstPage) + Int(run.count) {
        #expect(seen.insert(page).inserted, "page \(page) twice")
        #expect((run.pageClass == .zero) == (page % 4 == 0))
        guard run.pageClass == .raw else { continue }
        let bytes = buffer.map { Array($0.part(place * Page.size, Page.size)) }
        #expect(bytes == content(page), "page \(page)")
        place += 1
      }
    }
  }

  @Test(arguments: [Effort.lz4, .zstd1, .zstd6])
  func whatNobodyWaitsForGoesPacked(effort: Effort) async throws {
    let pulled = try await pull(PullPacking(effort: effort, threads: 1, lanes: 1))
    let given = pulled.given
    #expect(pulled.packed > 0 && pulled.plain == 0)
    // The page that was waited for is of text.
    #expect(given.zeroPages == 64 && given.uniformPages == 64 && given.compressedPages == 63)
    #expect(given.rawPages == 65 && given.pages == UInt64(Self.pageCount))
    #expect(given.wireBytes > 65 * 4096 && given.wireBytes < 65 * 4096 + 40_000, "\(given)")
    // Beside them there are heartbeats alone.
    let heartbeat = UInt64(FrameHeader.byteCount + Heartbeat.byteCount)
    #expect((pulled.wireBytes - given.wireBytes) % heartbeat == 0)
  }

  /// A destination that knows nothing of it gets what it always got.
  @Test func withoutAgreementPagesGoAsTheyAre() async throws {
    let pulled = try await pull(nil)
    let given = pulled.given
    #expect(pulled.packed == 0 && pulled.plain > 0)
    #expect(given.rawPages == 192 && given.zeroPages == 64 && given.packedPages == 0)
  }

  /// Every second one: zeros and text.
  @Test func scatteredPagesArePackedTogether() async throws {
    let pulled = try await pull(PullPacking(effort: .zstd1, threads: 1, lanes: 1), every: 2)
    #expect(pulled.given.compressedPages == 64 && pulled.given.zeroPages == 64)
    // 128 pages, of which one was waited for, in requests of 64.
    #expect(pulled.packed + pulled.plain <= 4, "\(pulled)")
  }

  /// In their classes with those of the copy.
  @Test func theRecordCountsThem() {
    var given = PullTally()
    (given.zeroPages, given.rawPages, given.uniformPages) = (1, 2, 3)
    (given.compressedPages, given.wireBytes) = (4, 5000)
    var record = MigrationRecord(outcome: .completed)
    record.pull = .init()
    record.pages = .init(zero: 10, raw: 20)
    record.noteGiven(given, packingMs: nil)
    #expect(record.pages == .init(zero: 11, raw: 22))
    #expect(record.pull?.wireBytes == 5000 && record.pull?.packedPages == nil)
    (record.pages.uniform, record.pages.compressed, record.encodeMs) = (30, 40, 50)
    record.noteGiven(given, packingMs: 7)
    #expect(record.pages.uniform == 33 && record.pages.compressed == 44)
    #expect(record.encodeMs == 57 && record.pull?.packedPages == 7)
  }

  /// What no honest source sends places nothing and ends the pull.
  @Test(arguments: ["refers to what is here", "not what was packed", "outside of RAM"])
  func hostileFramesAreRefused(what: String) async throws {
    let (qemu, far) = try Sockets.unixPair()
    let failures = Events<RelayFailure>()
    var invalid = PageBitmap(count: memory.numbering.limit)
    for page in 0..<Self.pageCount { invalid[page] = true }
    let port = PullPort(onEvent: { _ in }, onFailure: { failures.add($0) })
    let feeder = try PullFeeder(
      qemu: qemu, blocks: [Self.block], sectionID: 2, invalid: invalid, ask: { _ in },
      onEvent: { _ in })
    let (near, other) = try Sockets.tcpPair()
    let frame = Self.hostile(what)
    try await Blocking.run {
      defer {
        port.stop()
        near.shutdown()
        far.shutdown()
        feeder.stop()
      }
      port.begin(feeder)
      #expect(port.attach(other, lane: 1))
      try FrameSocket(near).send(.encodedPages, frame)
      let failure = failures.first { failure -> RelayFailure? in failure }
      guard case .protocolViolation = failure else {
        Issue.record("\(String(describing: failure))")
        return
      }
      #expect(feeder.missingCount == Self.pageCount && feeder.counters.placed == 0)
    }
  }

  private static func hostile(_ what: String) -> [UInt8] {
    let isOutside = what == "outside of RAM"
    let batch = BatchHeader(
      place: SequencedHeader(sequence: 1, after: 0),
      runs: [
        PageRun(
          block: 0, pageClass: .raw, firstPage: isOutside ? UInt64(pageCount) : 3, count: 1)
      ])
    var bytes: [UInt8] = []
    switch what {
    case "refers to what is here":
      EncodedHeader(batch: batch, codec: .none, kinds: [.duplicate], packedByteCount: 0)
        .encode(into: &bytes)
      DuplicateNote(block: 0, page: 4, identity: [UInt8](repeating: 7, count: 32))
        .encode(into: &bytes)
    case "not what was packed":
      EncodedHeader(batch: batch, codec: .zstd, kinds: [.compressed], packedByteCount: 100)
        .encode(into: &bytes)
      bytes += [UInt8](repeating: 0x28, count: 100)
    default:
      EncodedHeader(batch: batch, codec: .none, kinds: [.uniform], packedByteCount: 0)
        .encode(into: &bytes)
      bytes.appendBE(UInt64(9))
    }
    return bytes
  }
}

/// The same between two real QEMUs, under TCG.
@Suite(.serialized, .timeLimit(.minutes(3)), .enabled(if: !QEMUProgram.installed.isEmpty))
struct PackedGuestTests {
  @Test(arguments: QEMUProgram.installed)
  func theGuestIsWhatItWas(program: QEMUProgram) async throws {
    let pair = try await PullPair(program)
    let texts = try await pair.missingNoise().enumerated().filter { $0.offset % 3 > 0 }
      .map(\.element)
    try await pair.write(texts)
    let rig = try await LocalPullRig(
      pair, packing: PullPacking(effort: .zstd1, threads: 2, lanes: 2))
    let done = try await rig.end()
    #expect(try await pair.wait(for: .completed) == .completed)
    #expect(done.placedPages == UInt64(rig.invalid.population))
    #expect(try await pair.differences() == 0)
    try await pair.to.client.cont()
    #expect(try await pair.to.client.queryStatus().isRunning)
    // Its threads have counted everything then.
    try await rig.stop()
    let given = rig.server.given
    #expect(given.pages == done.placedPages && given.rawPages > 0, "\(given)")
    #expect(given.compressedPages >= UInt64(texts.count), "\(given)")
    #expect(
      given.wireBytes < given.rawPages * 4200 + (given.pages - given.rawPages) * 1024, "\(given)")
  }
}

extension PullPair {
  /// The guest has written text into these of its pages, which are of its first memory.
  fileprivate func write(_ pages: [Int]) async throws {
    let (name, file) = try await sourceMemory()
    let block = try #require(guest.blocks.firstIndex { $0.name == name })
    let base = guest.numbering.bases[block]
    try await Blocking.run {
      for page in pages {
        try PackedPullTests.text(page).withUnsafeBytes {
          try file.write($0, at: UInt64(page - base) << 12)
        }
      }
    }
  }
}
