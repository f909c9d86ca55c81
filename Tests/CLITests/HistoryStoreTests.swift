import Foundation
import GRDB
import Logging
import Testing

@testable import Agent

@Suite struct HistoryStoreTests {
  private let folder = NSTemporaryDirectory() + "/godwit-history-\(UUID().uuidString)"
  private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  private func record(_ vm: String) -> MigrationRecord {
    var record = MigrationRecord(outcome: .completed)
    (record.vm, record.totalMs) = (vm, .max)
    return record
  }

  @Test func newestFirstAndStillThereAfterReopening() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for name in ["a", "b", "c"] {
      let store = try #require(await HistoryStore.open(directory: folder, logger: logger))
      await store.add(record(name))
    }
    let store = try #require(await HistoryStore.open(directory: folder, logger: logger))
    #expect(try await store.latest(limit: 2) == [record("c"), record("b")])
    #expect(try await store.latest(limit: 0).isEmpty)
    #expect(try await store.latest(limit: .max).count == 3)
  }

  @Test func damagedFileIsMovedAside() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try Data("this is no database, and long enough to be looked at".utf8)
      .write(to: URL(fileURLWithPath: folder + "/history.sqlite"))
    let store = try #require(await HistoryStore.open(directory: folder, logger: logger))
    await store.add(record("a"))
    #expect(try await store.latest(limit: 5) == [record("a")])
    let kept = try FileManager.default.contentsOfDirectory(atPath: folder)
      .filter { $0.hasPrefix("history.sqlite.damaged-") }
    #expect(kept.count == 1)
  }

  @Test func newerSchemaIsLeftAlone() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    _ = try #require(await HistoryStore.open(directory: folder, logger: logger))
    let path = folder + "/history.sqlite"
    let queue = try DatabaseQueue(path: path)
    try await queue.write { try $0.execute(sql: "PRAGMA user_version = 99") }
    let store = try #require(await HistoryStore.open(directory: folder, logger: logger))
    await store.add(record("memory"))
    #expect(try await store.latest(limit: 5) == [record("memory")])
    let rows = try await queue.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM migration") }
    #expect(rows == 0)
  }

  @Test func unusableFolderFallsBackToMemory() async throws {
    let store = try #require(await HistoryStore.open(directory: "/proc/nowhere", logger: logger))
    await store.add(record("a"))
    #expect(try await store.latest(limit: 1) == [record("a")])
  }

  @Test func numberOfRecordsIsBounded() async throws {
    let store = try #require(await HistoryStore.inMemory(logger))
    try await store.fill(HistoryStore.recordCountMax + 5)
    await store.add(record("last"))
    let records = try await store.latest(limit: .max)
    #expect(records.first?.vm == "last")
    #expect(try await store.count() == HistoryStore.recordCountMax)
  }
}

extension HistoryStore {
  /// Many rows at once; `add` would take a transaction each.
  fileprivate func fill(_ count: Int) async throws {
    try await database.write { db in
      for _ in 0..<count {
        try db.execute(
          sql: "INSERT INTO migration (startedAt, outcome, record) VALUES (0, 'failed', '')")
      }
    }
  }

  fileprivate func count() async throws -> Int? {
    try await database.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM migration") }
  }
}
