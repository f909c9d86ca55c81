import Agent
import HostIO

/// A way to move a session's guest.
protocol Mover: Sendable {
  /// The QEMU that the guest leaves.
  var sourceProcess: Int32? { get }
  /// What has to happen, before the move that counts, for it to be a return.
  func prepare() async throws
  /// What the move is expected to come to, where that is asked for. Not part of the move: what it costs isn't measured.
  func forecast() async throws -> MigrationRecord.Forecast?
  func move(_ forecast: MigrationRecord.Forecast?) async throws -> Move
}

/// A migration that ended, and what stops the processes that it left running.
struct Move: Sendable {
  let record: MigrationRecord
  /// When it was asked for; agents and the destination's QEMU were there already where that is how
  /// the method works.
  let startUs: UInt64
  /// The QEMU at the destination; nil when it is gone.
  var destinationProcess: Int32?
  /// A migration that failed left a QEMU at the destination.
  var isLeftBehind = false
  var end: @Sendable () async -> Void = {}
}

struct QEMUMover: Mover {
  let rival: Rival
  let session: GuestSession
  let observer: any LabObserver

  var sourceProcess: Int32? { session.source.process.pid }

  /// QEMU remembers nothing.
  func prepare() async throws {}

  func forecast() async throws -> MigrationRecord.Forecast? { nil }

  func move(_ forecast: MigrationRecord.Forecast?) async throws -> Move {
    let migration = QEMUMigration(rival: rival, session: session, observer: observer)
    let (record, startUs, destination) = try await migration.run()
    return Move(
      record: record, startUs: startUs, destinationProcess: destination.process.pid
    ) { await destination.process.terminate() }
  }
}
