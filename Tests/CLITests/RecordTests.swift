import Agent
import Foundation
import Strategy
import Testing

@testable import CLI

@Suite struct RecordTests {
  /// Field names are a promise to scripts.
  @Test func everyFieldIsThereAndNullWhenNotMeasured() throws {
    let line = try JSONLine.encode(MigrationRecord(outcome: .refused, reason: "why"))
    #expect(!line.contains("\n"))
    let object = try #require(
      JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    for name in [
      "scenario", "strategy", "totalMs", "downtimeMs", "clientGapMs", "wireBytes", "eta",
      "encodeMs", "kept",
    ] {
      #expect(object[name] is NSNull, "\(name)")
    }
    let nested: [String: [String]] = [
      "qemu": ["source", "destination"],
      "pages": [
        "zero", "uniform", "raw", "compressed", "delta", "duplicate", "snapshot", "vault", "disk",
        "gang",
      ],
      "guest": ["heartbeats", "errors"],
      "audit": ["pagesCompared", "pagesDiffering", "durationMs", "pagesUncovered"],
      "forecast": [
        "totalMs", "totalLowMs", "totalHighMs", "plannedDowntimeMs", "modelTotalMs", "downtimeMs",
      ],
      "disk": ["bytesReadAtSource", "wireBytes", "movedBytes", "pauseMs", "keptAtSource"],
    ]
    for (name, fields) in nested {
      let inner = try #require(object[name] as? [String: Any], "\(name)")
      #expect(Set(inner.keys) == Set(fields))
      #expect(inner.values.allSatisfy { $0 is NSNull })
    }
    #expect(object["method"] as? String == "godwit")
    #expect(object["outcome"] as? String == "refused")
    #expect(object["reason"] as? String == "why")
  }

  @Test func recordSurvivesTheWayThroughJSON() throws {
    var record = MigrationRecord(outcome: .completed)
    record.vm = "web-1"
    record.totalMs = 5210
    record.pages = .init(zero: 7, raw: .max)
    record.audit = .init(pagesCompared: 131_088, pagesDiffering: 0)
    let line = try JSONLine.encode(record)
    #expect(try JSONLine.decode(MigrationRecord.self, from: line.utf8) == record)
  }

  @Test func etaOverTime() throws {
    var track = EtaTrack()
    for (at, eta) in [(0, nil), (1000, 4000), (3000, 900), (4500, 500)] as [(UInt64, UInt64?)] {
      track.note(
        atMs: at, etaMs: eta, lowMs: eta.map { $0 / 2 }, highMs: eta.map { $0 * 2 })
    }
    var record = MigrationRecord(outcome: .completed)
    (record.vm, record.totalMs) = ("web-1", 5000)
    record.eta = EtaRecord(track, totalMs: 5000)
    let line = try JSONLine.encode(record)
    #expect(try JSONLine.decode(MigrationRecord.self, from: line.utf8) == record)
    #expect(line.contains("\"errorMs\":null"))
    let rows = EtaReport.table([record, MigrationRecord(outcome: .failed)]) { _ in "then" }.lines
    #expect(rows.count == 2)
    #expect(
      rows[1].split(separator: " ").joined(separator: " ")
        == "web-1 5 s ? +0 ms -1.1 s -1.1 s +0 ms 7.3 % 66.6 % 25.0 %")
  }

  /// A history that was written before the ETA was recorded can still be read.
  @Test func recordsWithoutAnEtaAreRead() throws {
    let line = try JSONLine.encode(MigrationRecord(outcome: .completed))
      .replacing("\"eta\":null,", with: "")
    #expect(!line.contains("\"eta\""))
    #expect(try JSONLine.decode(MigrationRecord.self, from: line.utf8).eta == nil)
  }

  @Test func reportReadsWell() {
    var record = MigrationRecord(outcome: .completed)
    (record.vm, record.destination) = ("web-1", "host-b:4750")
    (record.totalMs, record.downtimeMs, record.wireBytes) = (5210, 87, 412 << 20)
    record.pages = .init(zero: 12_345, raw: 1_087_654)
    record.audit = .init(pagesCompared: 131_088, pagesDiffering: 0)
    record.qemu = .init(source: "7.2.22", destination: "10.0.2")
    #expect(
      RecordReport.lines(record) == [
        "web-1 moved to host-b:4750 in 5.21 s",
        "  downtime      87 ms",
        "  on the wire   412 MiB",
        "  pages         12,345 zero, 1,087,654 raw",
        "  audit         131,088 pages compared, 0 differ",
        "  QEMU          7.2.22 to 10.0.2",
      ])
    record.audit.pagesUncovered = 1024
    #expect(
      RecordReport.lines(record).contains(
        "  audit         131,088 pages compared, 0 differ, 1,024 could not be compared"))
  }

  @Test func outcomesHaveTheDocumentedExitCodes() {
    let codes = [MigrationRecord.Outcome.completed, .failed, .refused, .cancelled].map {
      MigrationRecord(outcome: $0).exitStatus.rawValue
    }
    #expect(codes == [0, 1, 3, 4])
    var record = MigrationRecord(outcome: .failed, reason: "the source's QEMU ended")
    record.isGuestSafe = true
    #expect(record.exitStatus == .failed)
    record.isGuestSafe = false
    #expect(record.exitStatus == .needsHuman)
  }

  @Test func tableColumnsLineUpAndEmptyOnesAreLeftOut() {
    var table = Table(["NAME", "PID", "STATE"])
    table.add(["a-long-name", "-", "running"])
    table.add(["b\u{1B}[0m", "", ""])
    #expect(table.lines == ["NAME         STATE", "a-long-name  running", "b?[0m"])
    #expect(table.lines(fitting: 8) == ["NAME   …", "a-long-…", "b?[0m"])
  }
}
