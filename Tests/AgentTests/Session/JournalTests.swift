import Foundation
import HostIO
import QMP
import Strategy
import Testing

@testable import Agent

@Suite struct JournalTests {
  private func folder() -> String {
    NSTemporaryDirectory() + "/godwit-journal-\(UUID().uuidString)"
  }

  @Test func recordsComeBackInOrder() async throws {
    let directory = folder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let journal = try Journal(directory: directory, id: "a")
    let start = JournalRecord.DestinationStart(
      id: "a", vm: "web", source: "host:1", resumeGuest: true)
    try await journal.append(.destinationBegan(start))
    try await journal.append(.prepared)
    try await journal.append(.done(outcome: JournalRecord.outcomeRunning))
    let story = DestinationStory(try Journal.records(at: journal.path))
    #expect(story.start?.vm == "web")
    #expect(story.facts.contains(.prepared) && !story.facts.contains(.resuming))
    #expect(story.facts.outcome == .running)
    #expect(Journal.unfinished(in: directory) == [journal.path])
    journal.remove()
    #expect(Journal.unfinished(in: directory).isEmpty)
  }

  /// A pull that a later agent takes up keeps to what the operator allowed.
  @Test func aPullsBandwidthComesBack() throws {
    let pull = JournalRecord.PullStart(
      blocks: [], sectionID: 2, packs: true, bandwidthBytesPerSecond: 1 << 20)
    let line = try JournalLine.encode(.pulling(pull))
    let story = SourceStory([try JournalLine.decode(line.dropLast())])
    #expect(story.pull?.bandwidthBytesPerSecond == 1 << 20)
    #expect(story.pull?.packs == true)
  }

  /// An agent may die in the middle of a write: what was not whole had not been decided.
  @Test func tornLastLineIsIgnored() async throws {
    let directory = folder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let journal = try Journal(directory: directory, id: "a")
    try await journal.append(.prepared)
    try await journal.append(.resuming)
    let whole = try #require(FileManager.default.contents(atPath: journal.path))
    for length in 0...whole.count {
      try whole.prefix(length).write(to: URL(fileURLWithPath: journal.path))
      let story = DestinationStory(try Journal.records(at: journal.path))
      // The record counts from its newline on.
      #expect(story.facts.contains(.resuming) == (length >= whole.count), "\(length) bytes")
    }
  }

  /// What is written behind a torn line must not be lost with it.
  @Test func tornLineIsCutOffBeforeTheNextRecord() async throws {
    let directory = folder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try await Journal(directory: directory, id: "a").append(.committing)
    let path = directory + "/a.journal"
    let whole = try #require(FileManager.default.contents(atPath: path))
    for torn in 0...whole.count {
      try (whole + whole.prefix(torn)).write(to: URL(fileURLWithPath: path))
      try await Journal(directory: directory, id: "a").append(.committed)
      let count = try Journal.records(at: path).count
      #expect(count == (torn == whole.count ? 3 : 2), "\(torn) bytes")
    }
  }

  /// The disk was full in the middle of a record, and then the same agent writes what follows from that.
  @Test func recordAfterAFailedWriteIsWhole() async throws {
    let directory = folder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let journal = try Journal(directory: directory, id: "a")
    try await journal.append(.prepared)
    let file = try #require(FileHandle(forWritingAtPath: journal.path))
    try file.seekToEnd()
    try file.write(contentsOf: Data(#"1 0a1b2c3d {"resu"#.utf8))
    try await journal.append(.refused)
    #expect(DestinationStory(try Journal.records(at: journal.path)).facts == [.prepared, .refused])
  }

  /// A new journal has its space, where the file system can promise any, and is empty all the same.
  @Test func spaceIsReserved() throws {
    let directory = folder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let journal = try Journal(directory: directory, id: "a")
    var status = stat()
    #expect(stat(journal.path, &status) == 0)
    #expect(status.st_size == 0)
    #expect(status.st_blocks == 0 || status.st_blocks * 512 >= Journal.reservedBytes)
  }

  /// A record that is not as it was written is never passed over: it may have been the decision.
  @Test func damagedLinesAreTold() async throws {
    let directory = folder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let journal = try Journal(directory: directory, id: "a")
    try await journal.append(.prepared)
    try await journal.append(.resuming)
    let whole = try #require(FileManager.default.contents(atPath: journal.path))
    for position in 0..<whole.count - 1 {
      var bytes = whole
      bytes[position] ^= 0x20
      try bytes.write(to: URL(fileURLWithPath: journal.path))
      let damage = #expect(throws: JournalDamage.self, "byte \(position)") {
        try Journal.records(at: journal.path)
      }
      #expect((damage?.intact.count ?? 9) <= 1)
    }
    try Data("2 00000000 {}\n".utf8).write(to: URL(fileURLWithPath: journal.path))
    let newer = #expect(throws: JournalDamage.self) { try Journal.records(at: journal.path) }
    #expect(newer?.code == .newer(format: 2))
  }

  /// What its checksum doesn't vouch for may be anything.
  @Test func linesWithoutChecksumAreDamage() throws {
    let directory = folder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: true)
    let path = directory + "/bare.journal"
    try Data((#"{"committing":{}}"# + "\n").utf8).write(to: URL(fileURLWithPath: path))
    let damage = #expect(throws: JournalDamage.self) { try Journal.records(at: path) }
    #expect(damage?.code == .corrupt)
    // RFC 3720, appendix B.4: 32 bytes of zeroes.
    #expect(JournalLine.checksum([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
  }

  /// What changed between prepare and the stop counts, for whoever commits after a crash.
  @Test func theGuestsLastRunStateCounts() {
    let began = JournalRecord.sourceBegan(
      .init(
        id: "a", vm: "v", destination: "d", monitorPath: "m", pid: 1, processStart: 1,
        capabilities: [:], parameters: "{}", wasRunning: true, startedAt: 0, keepSource: false))
    #expect(SourceStory([began]).start?.wasRunning == true)
    #expect(SourceStory([began, .guestRan(false), .committing]).start?.wasRunning == false)
    let start = JournalRecord.DestinationStart(
      id: "a", vm: "v", source: "s", resumeGuest: false)
    #expect(DestinationStory([.destinationBegan(start), .prepared]).start?.resumeGuest == false)
    let story = DestinationStory([.destinationBegan(start), .prepared, .guestRan(true)])
    #expect(story.start?.resumeGuest == true && story.facts == [.began, .prepared])
  }

  @Test func openMigrationsAreTriedLessAndLessOften() {
    var schedule = RecoveryService.Schedule()
    var attempts: [UInt64] = []
    for second in 0..<600 as Range<UInt64>
    where schedule.isDue("a", nowMs: second * 1000) { attempts.append(second) }
    #expect(attempts.prefix(5) == [0, 2, 6, 14, 30])
    #expect(attempts.count < 20)
    let gaps = zip(attempts, attempts.dropFirst()).map { $1 - $0 }
    #expect(gaps.max() == 60)
    let other = schedule.isDue("b", nowMs: 0)
    #expect(other)
  }
}

@Suite struct PhaseHoldsTests {
  @Test func holdsOnlyWhatIsNamed() async throws {
    let holds = PhaseHolds(parsing: "switchover=20ms,nonsense,commit=soon,flight=1s")
    #expect(holds.isHeld(.switchover) && !holds.isHeld(.commit) && !holds.isHeld(.bulk))
    try await holds.hold(.commit)
    let startMs = MonotonicClock.nowMs
    try await holds.hold(.switchover)
    #expect(MonotonicClock.nowMs - startMs >= 20)
  }
}

@Suite struct MailboxTests {
  @Test func elementsComeInOrderAndWaitingEnds() async {
    let mailbox = Mailbox<Int>()
    mailbox.put(1)
    mailbox.put(2)
    #expect(await mailbox.take(timeoutMs: 1000) == 1)
    #expect(await mailbox.take(timeoutMs: 1000) == 2)
    #expect(await mailbox.take(timeoutMs: 10) == nil)
    Task { mailbox.put(3) }
    #expect(await mailbox.take(timeoutMs: 60_000) == 3)
  }

  /// A time-out and an element that come together must not lose the element.
  @Test func nothingIsLostBetweenTimeoutAndPut() async {
    let mailbox = Mailbox<Int>()
    let count = 2000
    let producer = WorkerThread("producer") {
      for number in 0..<count {
        mailbox.put(number)
        if number % 16 == 0 { MonotonicClock.sleep(us: 900) }
      }
    }
    var next = 0
    while next < count {
      guard let element = await mailbox.take(timeoutMs: 1) else { continue }
      #expect(element == next)
      next += 1
    }
    producer.join()
  }
}
