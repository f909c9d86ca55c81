import FoundationEssentials
import GRDB
import HostIO
public import Logging

/// The migrations that an agent was told to make, newest `recordCountMax`, in SQLite.
///
/// History is worth less than any migration: nothing here throws on the way of one. A file that
/// can't be used is moved aside, and where that fails too, records live in memory until the agent
/// ends; either way with a warning in the log.
public struct HistoryStore: Sendable {
  public static let recordCountMax = 10_000
  /// `PRAGMA user_version` of the file.
  static let schemaVersion = 1

  let database: DatabaseQueue
  private let logger: Logger

  /// Opens or creates `history.sqlite` in `directory`.
  public static func open(directory: String, logger: Logger) async -> HistoryStore? {
    let path = directory + "/history.sqlite"
    do {
      try FileManager.default.createDirectory(
        atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700]
      )
      return HistoryStore(database: try await prepared(path), logger: logger)
    } catch let error as DatabaseError where isDamage(error) {
      moveAside(path, error, logger)
    } catch {
      logger.warning(
        "history kept in memory only", metadata: ["path": "\(path)", "error": "\(error)"])
      return await inMemory(logger)
    }
    do {
      return HistoryStore(database: try await prepared(path), logger: logger)
    } catch {
      logger.warning(
        "history kept in memory only", metadata: ["path": "\(path)", "error": "\(error)"])
      return await inMemory(logger)
    }
  }

  /// A store that ends with the process; nil only when SQLite has no memory.
  public static func inMemory(_ logger: Logger) async -> HistoryStore? {
    guard let queue = try? DatabaseQueue() else { return nil }
    guard (try? await queue.write { try createSchema($0) }) != nil else { return nil }
    return HistoryStore(database: queue, logger: logger)
  }

  /// Adds a record and drops the oldest ones above the bound; failures are logged.
  public func add(_ record: MigrationRecord) async {
    do {
      let json = try JSONLine.encode(record)
      try await database.write { db in
        try db.execute(
          sql: """
            INSERT INTO migration (startedAt, vm, destination, strategy, outcome, totalMs, downtimeMs,
              wireBytes, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
          arguments: [
            record.startedAt ?? 0, record.vm, record.destination, record.strategy,
            record.outcome.rawValue, record.totalMs.map(Int64.init(clamping:)),
            record.downtimeMs.map(Int64.init(clamping:)),
            record.wireBytes.map(Int64.init(clamping:)), json,
          ])
        try db.execute(
          sql: """
            DELETE FROM migration WHERE number <=
              (SELECT number FROM migration ORDER BY number DESC LIMIT 1 OFFSET ?)
            """,
          arguments: [Self.recordCountMax])
      }
    } catch {
      logger.warning("migration not written to the history", metadata: ["error": "\(error)"])
    }
  }

  /// The latest records, newest first; ones that this version can't read are left out.
  public func latest(limit: Int) async throws -> [MigrationRecord] {
    let bounded = min(max(limit, 0), Self.recordCountMax)
    let lines = try await database.read { db in
      try String.fetchAll(
        db, sql: "SELECT record FROM migration ORDER BY number DESC LIMIT ?", arguments: [bounded])
    }
    return lines.compactMap { try? JSONLine.decode(MigrationRecord.self, from: $0.utf8) }
  }
}

extension HistoryStore {
  private struct NewerSchema: Error, CustomStringConvertible {
    let found: Int
    var description: String { "written by a newer Godwit (schema \(found)); left alone" }
  }

  private static func prepared(_ path: String) async throws -> DatabaseQueue {
    var configuration = Configuration()
    configuration.busyMode = .timeout(2)
    let queue = try DatabaseQueue(path: path, configuration: configuration)
    try await queue.write { db in
      let check = try String.fetchOne(db, sql: "PRAGMA quick_check(1)")
      guard check == "ok" else { throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: check) }
      let version = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
      guard version <= schemaVersion else { throw NewerSchema(found: version) }
      if version == 0 { try createSchema(db) }
    }
    return queue
  }

  private static func createSchema(_ db: Database) throws {
    try db.execute(
      sql: """
        CREATE TABLE migration (number INTEGER PRIMARY KEY AUTOINCREMENT, startedAt INTEGER NOT NULL,
          vm TEXT, destination TEXT, strategy TEXT, outcome TEXT NOT NULL, totalMs INTEGER,
          downtimeMs INTEGER, wireBytes INTEGER, record TEXT NOT NULL);
        CREATE INDEX migrationByVM ON migration (vm, number);
        PRAGMA user_version = \(schemaVersion);
        """)
  }

  /// The file's content is the problem, not the disk or the permissions.
  private static func isDamage(_ error: DatabaseError) -> Bool {
    [.SQLITE_CORRUPT, .SQLITE_NOTADB, .SQLITE_ERROR, .SQLITE_SCHEMA].contains(error.resultCode)
  }

  private static func moveAside(_ path: String, _ error: DatabaseError, _ logger: Logger) {
    let kept = "\(path).damaged-\(MonotonicClock.wallSeconds)"
    for suffix in ["", "-wal", "-shm", "-journal"] {
      try? FileManager.default.moveItem(atPath: path + suffix, toPath: kept + suffix)
    }
    logger.warning(
      "damaged history moved aside, a new one begun",
      metadata: ["kept": "\(kept)", "error": "\(error)"])
  }
}
