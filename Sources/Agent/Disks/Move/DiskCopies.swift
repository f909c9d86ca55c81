import HostIO
import Logging
import QMP

/// How copies of disks are.
struct DiskLook: Sendable, Equatable {
  /// Not copied yet, or written again since.
  var owedBytes: UInt64 = 0
  /// Read from the disks for the copies alone; nil: nobody counts.
  var readBytes: UInt64?
  /// Each has had both sides the same, or nearly so while the guest writes to both.
  var isReady = true
}

/// The disks of a running guest on their way to another host: the servers that they are behind move them, and QEMU
/// copies the others.
///
/// The guest's disks stay what they are until the commit: whatever ends a copy, the guest goes on with them.
final class DiskCopies: Sendable {
  struct Look: Sendable {
    /// QEMU's copies; nil: there are none.
    var mirrored: DiskLook?
    /// The servers' moves; nil: there are none.
    var moved: DiskLook?

    var owedBytes: UInt64 { (mirrored?.owedBytes ?? 0) &+ (moved?.owedBytes ?? 0) }
    /// nil: not everybody counts.
    var readBytes: UInt64? { mirrored == nil ? moved?.readBytes : nil }
  }

  let disks: [MovingDisk]
  let mirror: DiskMirror?
  let moves: ServerMoves?
  private let hasEndedMirrors = Guarded(false)

  init(_ disks: [MovingDisk], _ mirror: DiskMirror?, _ moves: ServerMoves?) {
    (self.disks, self.mirror, self.moves) = (disks, mirror, moves)
  }

  var byteCount: UInt64 { disks.reduce(0) { $0 &+ $1.claim.byteCount } }
  /// What has gone to the destination.
  var sentBytes: UInt64 { (mirror?.tunnel.sentBytes ?? 0) &+ (moves?.sentBytes ?? 0) }

  /// - Parameter bytesPerSecond: a limit for all of them together; nil: none.
  func begin(_ wishes: DiskWishes, bytesPerSecond: UInt64?) async throws {
    let share = bytesPerSecond.map { max($0 / UInt64(max(disks.count, 1)), 1) }
    try await moves?.begin(wishes, bytesPerSecond: share)
    try await mirror?.begin(
      wishes.method == .mirror ? .writeBlocking : .background, bytesPerSecond: share)
  }

  /// How far they are; throws when one has failed.
  func look() async throws -> Look {
    Look(mirrored: try await mirror?.look(), moved: try await moves?.look())
  }

  /// The guest has stopped: ends the copies as they become ready. True once every one has ended with both sides the
  /// same.
  func finish() async throws -> Bool {
    let haveMoved = try await moves?.finish() ?? true
    if let mirror, !hasEndedMirrors.read({ $0 }) {
      let isDone = try await mirror.finish()
      hasEndedMirrors.update { $0 = isDone }
    }
    return haveMoved && (mirror == nil || hasEndedMirrors.read { $0 })
  }

  /// Ends every connection to the destination at once: the guest's writes wait for the network no more.
  func cut() {
    mirror?.tunnel.cut()
    moves?.cut()
  }

  /// Takes everything of the copies back, whatever state they are in. Never fails: what is left does the guest no harm.
  ///
  /// - Parameter client: nil: QEMU is gone.
  func tidy(_ client: QMPClient?, logger: Logger) async {
    if let moves { await ServerMoves.cancel(moves.handles, logger: logger) }
    if let mirror, let client { await DiskMirror.tidy(mirror.handles, client, logger: logger) }
  }
}
