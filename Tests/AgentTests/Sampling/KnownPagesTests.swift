import Base
import Compaction
import Foundation
import HostIO
import QEMUStream
import Strategy
import Testing
import Wire

@testable import Agent

/// What a forecast learns of pages that the destination has already.
@Suite(.serialized, .timeLimit(.minutes(2))) struct KnownPagesTests {
  static let blocks = [
    RAMBlock(name: "vga", length: 8 << 12), RAMBlock(name: "mem0", length: 800 << 12),
  ]

  let guest: KeptGuest
  let configuration: AgentConfiguration

  init() throws {
    guest = try KeptGuest(Self.blocks)
    var configuration = AgentConfiguration()
    configuration.stateDirectory = guest.folder + "/state"
    self.configuration = configuration
    try guest.fill(0..<400, block: 1, seed: 1)
  }

  /// All pages of the guest that hold something.
  private func contents() throws -> SampledContents {
    let memory = SampledMemory(
      shared: zip(Self.blocks, guest.files).map { (name: $0.name, file: $1) })
    var random = SplitMix64(seed: 1)
    return try SampledContents(
      PageSample(of: memory.ramPages, count: Int(memory.ramPages), using: &random), of: memory)
  }

  private func write(_ content: [UInt8], to page: UInt64) throws {
    try content.withUnsafeBytes { try guest.files[1].write($0, at: page << 12) }
  }

  /// What a host with this configuration says of a guest.
  private func places(
    _ contents: SampledContents, _ configuration: AgentConfiguration, guest: String = "web-1"
  ) -> [StoredPlace] {
    let survey = VaultSurvey(configuration)
    let question = PeerMessage.StoredQuestion(
      contents, blocks: Self.blocks.map(\.name),
      seeds: survey.snapshots(guest: guest, uuid: "u-1").compactMap { $0.head?.seed })
    return survey.places(of: question, guest: guest, uuid: "u-1")
  }

  /// The guest's memory is kept; then 100 pages change, and 50 others are found at other places, too.
  private func keepAndChange() throws {
    try guest.keep(in: Vault(configuration))
    try guest.fill(0..<100, block: 1, seed: 2)
    for page in 0..<50 { try write(KeptGuest.content(150 + page, seed: 1), to: UInt64(500 + page)) }
  }

  @Test func whatIsKeptIsFoundAtItsPlaceAndElsewhere() throws {
    try keepAndChange()
    let contents = try contents()
    let stored = places(contents, configuration)
    let known = KnownPages(contents, stored: stored, disks: nil)
    for (place, way) in zip(contents.places, known.ways) {
      let expected: KnownPages.Way? =
        place.page < 100 ? nil : place.page < 400 ? .snapshot : .vault
      #expect(place.block == 1 && way == expected, "\(place)")
    }
    #expect(known.ways.count == 450)
    #expect(known.pages(.snapshot).pages == 300 && known.pages(.vault).pages == 50)
    let summary = GuestSample.Known(known)
    #expect(summary.snapshot.pages == 300 && summary.namedPages == 50)
  }

  /// As in a migration: others' memory only where the operator says so.
  @Test func onlyGuestsOfAGroupShare() throws {
    try keepAndChange()
    let contents = try contents()
    #expect(places(contents, configuration, guest: "web-2").allSatisfy { $0 == .nowhere })
    var sharing = configuration
    sharing.share = [ShareRule(group: "web", vms: ["web-*"])]
    #expect(places(contents, sharing, guest: "web-2").count { $0 == .samePlace } == 300)
    // Beside its own snapshot, which has nothing of it, that of the other.
    let own = try KeptGuest(Self.blocks)
    try own.fill(3..<4, block: 1, seed: 9)
    try own.keep(in: Vault(configuration), guest: "web-2")
    let found = places(contents, sharing, guest: "web-2")
    #expect(found.count { $0 == .elsewhere } == 350 && !found.contains(.samePlace))
    #expect(places(contents, sharing, guest: "db-1").allSatisfy { $0 == .nowhere })
  }

  /// A snapshot that came since the question was made, and one that is damaged, are as good as none.
  @Test func whatIsNotMeantIsNotLookedAt() throws {
    try keepAndChange()
    let contents = try contents()
    var question = PeerMessage.StoredQuestion(
      contents, blocks: Self.blocks.map(\.name), seeds: [12345])
    let survey = VaultSurvey(configuration)
    func found() -> Int {
      survey.places(of: question, guest: "web-1", uuid: "u-1").count { $0 != .nowhere }
    }
    #expect(found() == 0)
    let entry = try #require(survey.snapshots(guest: "web-1", uuid: "u-1").first)
    question = PeerMessage.StoredQuestion(
      contents, blocks: ["vga", "renamed"], seeds: [try #require(entry.head?.seed)])
    #expect(
      survey.places(of: question, guest: "web-1", uuid: "u-1").allSatisfy { $0 != .samePlace })
    #expect(found() == 350)
    // The keys of its first segment.
    let handle = try FileHandle(forUpdating: URL(filePath: entry.path))
    let offset = try SnapshotFile(path: entry.path).layout.segmentOffset(0)
    try handle.seek(toOffset: offset + UInt64(VaultSegment.headByteCount))
    try handle.write(contentsOf: Data(repeating: 0xEE, count: 8))
    try handle.close()
    #expect(found() == 0)
  }

  /// Pages that would not be sent don't count for how far the others can be packed.
  @Test func theRestIsPacked() throws {
    for page in 400..<600 as Range<UInt64> {
      try write(Array("\(page) and words ".utf8.cycled(to: Page.size)), to: page)
    }
    let contents = try contents()
    let isNoise = contents.places.map { $0.page < 400 }
    let (all, text) = try (
      #require(contents.packing()).permille, #require(contents.packing(without: isNoise)).permille
    )
    #expect((600...720).contains(all) && text < 100, "\(all), \(text)")
    #expect(contents.packing(without: isNoise.map { _ in true }) == nil)
  }

  /// What one thread takes for a page, by whatever clock: here each look at it is 64 µs after the last one.
  @Test func pagesAreTimed() throws {
    try keepAndChange()
    let contents = try contents()
    let known = KnownPages(contents, stored: places(contents, configuration), disks: nil)
    var now: UInt64 = 0
    func tick() -> UInt64 {
      now += 64
      return now
    }
    // 350 pages to name, 64 at a time; 450 to pack, 128 at a time.
    #expect(contents.nameNs(known.ways, disks: nil, nowUs: tick) == 1000)
    #expect(contents.packing(nowUs: tick)?.pageNs == 500)
    // Fewer than a part are timed all the same; none are not.
    var few = [KnownPages.Way?](repeating: nil, count: known.ways.count)
    #expect(contents.nameNs(few, disks: nil, nowUs: tick) == nil)
    for index in 0..<16 { few[index] = .vault }
    #expect(contents.nameNs(few, disks: nil, nowUs: tick) == 4000)
    // By the real clock: a hash of 4 KiB takes some time, and no millisecond.
    #expect((100...1_000_000).contains(try #require(known.nameNs)))
    var times = PageTimes()
    #expect(times.medianNs == nil)
    for us in [5, 900_000, 4, 6, 3] as [UInt64] { times.note(pages: 2, us: us) }
    times.note(pages: 0, us: 7)
    #expect(times.medianNs == 2500)
  }

  /// Of the moves that went before those with many such pages say what they take, and the others what the model misses.
  @Test func earlierMovesAreOfOneKindOrTheOther() throws {
    var record = MigrationRecord(outcome: .completed)
    (record.strategy, record.forecast.modelTotalMs) = ("hotpages", 4000)
    (record.totalMs, record.wireBytes, record.encodeMs) = (5000, 70_000_000, 1500)
    (record.pages.raw, record.pages.compressed) = (800, 800)
    (record.pages.disk, record.pages.vault) = (100, 100)
    #expect(PastForecast(record) != nil && PastKnownMove(record) == nil)
    record.pages.disk = 101
    #expect(PastForecast(record) == nil)
    let known = try #require(PastKnownMove(record))
    #expect(known.knownPages == 201 && known.totalMs == 5000 && known.encodeMs == 1500)
    // What else took time says nothing of pages.
    for change in [
      { $0.retries = 1 }, { $0.pull = .init() }, { $0.disk.movedBytes = 1 },
      { $0.outcome = .failed }, { $0.encodeMs = nil }, { $0.totalMs = 0 },
    ] as [(inout MigrationRecord) -> Void] {
      var other = record
      change(&other)
      #expect(PastKnownMove(other) == nil)
    }
    // As a damaged history may have it.
    (record.pages.snapshot, record.pages.gang) = (.max, .max)
    (record.pages.raw, record.pages.compressed) = (.max, .max)
    #expect(PastKnownMove(record)?.knownPages == .max && PastForecast(record) == nil)
  }

  /// Both together, asked of an agent as `godwit plan` does it.
  @Test func anAgentSaysWhatItHas() async throws {
    let hosts = try DiskReferenceTests.Hosts(copies: true)
    let target = try AgentUnderAttack { configuration in
      configuration.allowedPrograms = ["/bin/true"]
      configuration.stateDirectory = hosts.scratch.path + "/b"
    }
    try guest.keep(in: Vault(target.agent.configuration), guest: "guest")
    for page in 0..<100 as Range<UInt64> {
      try write(TestImage.content(page * 7), to: page)
      // What is kept at the same place counts as that.
      if page >= 90 { try write(KeptGuest.content(Int(page), seed: 1), to: page) }
    }
    try guest.fill(100..<150, block: 1, seed: 3)
    let contents = try contents()
    let folder = target.agent.configuration.definitionsDirectory
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let words = #"["-drive", "file=\#(hosts.images[1]),format=raw,if=virtio"]"#
    try SmallFile.write(
      Array("name = \"guest\"\nprogram = \"/bin/true\"\narguments = \(words)\n".utf8),
      to: folder + "/guest.toml", mode: 0o600)

    var request = ProbeTests.question
    request.source.uuid = "u-1"
    let indexes = [hosts.indexes[0]]
    func ask(_ change: (inout PeerMessage.PrepareRequest) -> Void) async throws -> KnownPages? {
      var asked = request
      change(&asked)
      let probe = LinkProbe(
        destination: "127.0.0.1:\(target.port)", security: PeerSecurity(AgentUnderAttack.insecure),
        share: OutgoingLink(rate: nil).join(), laneCount: 1)
      return try await Blocking.run { [asked] in
        try probe.known(
          asked, contents, blocks: Self.blocks.map(\.name), indexes: indexes,
          filterBytesMax: 1 << 20)
      }
    }
    let known = try #require(try await ask { $0.images = indexes.map(ImageClaim.init) })
    #expect(known.pages(.disk).pages == 90 && known.pages(.snapshot).pages == 260)
    #expect(known.pages(.vault).pages == 0 && known.ways.count == 400)
    // Without an index here only what is kept.
    let kept = try #require(try await ask { $0.images = [] })
    #expect(kept.pages(.disk).pages == 0 && kept.pages(.snapshot).pages == 260)
    // As to an agent that doesn't say.
    let unasked = try await ask { $0.images = nil }
    #expect(unasked == nil)
    await target.stop()
    withExtendedLifetime(hosts) {}
  }

  @Test func questionsAreBounded() throws {
    typealias Question = PeerMessage.StoredQuestion
    func isSound(_ question: Question) throws -> Bool {
      let bytes = try PeerMessage.areStored(question).encoded()
      return (try? PeerMessage(decoding: bytes)) != nil
    }
    let page = Question.Page(block: 0, page: 7, hashes: [1])
    #expect(try isSound(Question(seeds: [5], blocks: ["a"], pages: [page])))
    let wrong: [Question] = [
      Question(seeds: [5], blocks: [], pages: [page]),
      Question(seeds: [5, 6], blocks: ["a"], pages: [page]),
      Question(seeds: [], blocks: ["a"], pages: [page]),
      Question(seeds: Array(1...6), blocks: ["a"], pages: []),
      Question(seeds: [5], blocks: ["a"], pages: [.init(block: -1, page: 7, hashes: [1])]),
      Question(seeds: [5], blocks: ["a"], pages: [.init(block: 0, page: 1 << 48, hashes: [1])]),
      Question(seeds: [5], blocks: ["a"], pages: Array(repeating: page, count: 2049)),
    ]
    for question in wrong { #expect(try !isSound(question), "\(question.seeds)") }
  }
}

extension Collection {
  /// Its elements over and over.
  fileprivate func cycled(to count: Int) -> [Element] {
    var elements: [Element] = []
    while elements.count < count { elements += self }
    return Array(elements.prefix(count))
  }
}
