import BlockStore
import DiskStrategy
import HostIO
import Logging

/// Disks of a running guest that the servers move which they are behind, each through a `DiskTunnel` of its own.
///
/// The guest goes on using its disk through the server all the time, and when the move is over or given up as well: the
/// destination gets a copy. Until the very end both sides are kept the same.
final class ServerMoves: Sendable {
  /// What names a move; in the journal, for whoever has to clean up.
  struct Handle: Codable, Sendable, Equatable {
    /// The server's control socket, and the export's name there.
    var control, disk: String
    /// The URI that the server was told to move it to. No other move ever has it, but one to the same older copy.
    var destination: String
  }

  /// How long a server may take to begin a move or to end one, in milliseconds.
  private static let orderMs: UInt64 = 60_000
  /// How long a server may be away that died and has a supervisor, and how often it is looked for, in milliseconds.
  private static let (returnMs, returnLookMs): (UInt64, Int) = (5000, 100)
  /// How long the guest's writes may wait for the end, in milliseconds. Nobody writes then: the guest is stopped.
  private static let pauseLimitMs: UInt64 = 2000
  /// What may be on its way while both sides are kept the same: a part of the disk, and no more than so many bytes.
  private static let littlePart: UInt64 = 64
  private static let littleBytes: UInt64 = 4 << 20

  /// Parts of an older copy that are compared with its manifest, as by `block move`.
  private static let baseSampleCount = 64

  let disks: [MovingDisk]
  let handles: [Handle]
  private let tunnels: [DiskTunnel]
  /// How long a server may be without a connection to the destination, in milliseconds.
  private let patienceMs: UInt64
  private let state = Guarded(State())

  private struct State {
    /// Moves that were told to end with both sides the same, by their place.
    var ending: Set<Int> = []
    /// Since when one of them has no connection, in milliseconds; nil: all have one.
    var apartSinceMs: UInt64?
  }

  /// - Parameter tunnels: one for each disk.
  init(
    _ disks: [MovingDisk], _ handles: [Handle], _ tunnels: [DiskTunnel], patienceMs: UInt64
  ) {
    (self.disks, self.handles, self.tunnels) = (disks, handles, tunnels)
    self.patienceMs = patienceMs
  }

  var sentBytes: UInt64 { tunnels.reduce(0) { $0 &+ $1.sentBytes } }

  /// - Parameter bytesPerSecond: a limit for each of them; nil: none.
  func begin(_ wishes: DiskWishes, bytesPerSecond: UInt64?) async throws {
    for (disk, handle) in zip(disks, handles) {
      var request = BlockRequest(.move, disk: handle.disk)
      request.move = Self.order(wishes, handle.destination, bytesPerSecond)
      do { _ = try await Self.ask(handle, request, Self.orderMs) } catch {
        let text = "the server of the disk \(disk.claim.name): \(TerminalText.plain("\(error)"))"
        guard let known = error as? ControlError, [.refused, .usage].contains(known.code) else {
          throw Ending.failed(text)
        }
        throw Ending.refused([
          Refusal(.disks, text, remedy: "mend that, or use another --disk-method")
        ])
      }
    }
  }

  private static func order(
    _ wishes: DiskWishes, _ destination: String, _ bytesPerSecond: UInt64?
  ) -> BlockMoveOrder {
    // `auto`: what it begins with, for it mirrors by itself when that is called for.
    let method = MoveMethod(rawValue: wishes.method.rawValue) ?? .precopy
    var order = BlockMoveOrder(
      destination: destination, method: method, ending: .wait, pauseLimitMs: pauseLimitMs)
    (order.bytesPerSecond, order.staysHere) = (bytesPerSecond, true)
    order.surrogate = wishes.surrogate.map { BlockSurrogateOrder(place: $0) }
    (order.manifest, order.backups) = (wishes.manifest, wishes.backups)
    order.base = wishes.baseManifest.map {
      BlockBaseOrder(manifest: $0, sampleCount: baseSampleCount, verifiesAll: false)
    }
    return order
  }

  /// How far the moves are; throws when one doesn't go on.
  func look() async throws -> DiskLook {
    var (look, isApart) = (DiskLook(), false)
    var readBytes: UInt64 = 0
    for place in disks.indices {
      let move = try await current(place)
      look.owedBytes &+= move.neededBytes
      readBytes &+= move.readBytes
      if move.phase == .connecting { isApart = true }
      let little = min(move.diskBytes / Self.littlePart, Self.littleBytes)
      if move.phase != .mirroring || move.neededBytes > little { look.isReady = false }
    }
    look.readBytes = readBytes
    let now = MonotonicClock.nowMs
    let sinceMs = state.update { state in
      state.apartSinceMs = isApart ? state.apartSinceMs ?? now : nil
      return state.apartSinceMs ?? now
    }
    guard now - min(sinceMs, now) <= patienceMs else {
      throw Ending.failed("a server of the guest's disks finds no way to the destination")
    }
    return look
  }

  /// The guest has stopped: has the moves end. True once the destination has all of each disk, on stable storage.
  func finish() async throws -> Bool {
    var isDone = true
    for place in disks.indices {
      let move = try await current(place)
      if move.phase == .copied { continue }
      isDone = false
      // The guest stands still: it doesn't wait for a person.
      guard move.phase != .paused else { throw failure(place, "somebody paused it") }
      guard state.update({ $0.ending.insert(place).inserted }) else { continue }
      var request = BlockRequest(.finish, disk: handles[place].disk)
      request.ending = .copy
      do { _ = try await Self.ask(handles[place], request, AttachedDisk.answerMs) } catch {
        throw failure(place, "\(error)")
      }
    }
    return isDone
  }

  /// Ends every connection to the destination at once.
  func cut() { for tunnel in tunnels { tunnel.cut() } }

  /// What the server says of a move that is as it should be.
  private func current(_ place: Int) async throws -> MoveStatus {
    let found: MoveStatus?
    do { found = try await Self.status(handles[place]) } catch {
      throw failure(place, "\(error)")
    }
    guard let move = found else { throw failure(place, "its server knows nothing of it") }
    // What an earlier connection still carries, through two agents, may arrive behind what a later one does: an old block
    // over a new one. Nobody can see that, so such a move isn't gone on with.
    guard move.connectionCount <= 1 else {
      throw failure(place, "its connection to the destination broke")
    }
    switch move.phase {
    case .connecting, .copying, .mirroring, .finishing: return move
    case .paused:
      // Without a problem somebody wanted it, and will want it to go on.
      guard let problem = move.problem else { return move }
      throw failure(place, problem)
    case .interrupted: throw failure(place, "its server was started anew")
    case .copied, .switched, .cancelled:
      let isWanted = move.phase == .copied && state.read { $0.ending.contains(place) }
      guard isWanted else { throw failure(place, "somebody else ended it") }
      return move
    }
  }

  private func failure(_ place: Int, _ why: String) -> Ending {
    .failed("the move of the disk \(disks[place].claim.name): \(TerminalText.plain(why))")
  }

  @discardableResult
  private static func ask(
    _ handle: Handle, _ request: BlockRequest, _ timeoutMs: UInt64
  ) async throws -> [MoveStatus] {
    try await BlockClient(path: handle.control, timeoutMs: timeoutMs).ask(request)
  }

  /// nil: the server knows nothing of this move.
  private static func status(_ handle: Handle) async throws -> MoveStatus? {
    let request = BlockRequest(.status, disk: handle.disk)
    return try await ask(handle, request, AttachedDisk.answerMs).first {
      $0.destination == handle.destination
    }
  }

  /// The same of a server that may just have died, and be on its way back: nobody else would end its move.
  private static func returned(_ handle: Handle) async throws -> MoveStatus? {
    let startMs = MonotonicClock.nowMs
    while true {
      do { return try await status(handle) } catch {
        // One that answers is there.
        let isThere = [.usage, .refused, .failed].contains((error as? ControlError)?.code)
        guard !isThere, MonotonicClock.nowMs - startMs < returnMs else { throw error }
        try await Task.sleep(for: .milliseconds(returnLookMs))
      }
    }
  }

  /// Ends those that aren't over; the guest goes on with its disks, which the servers have. Never fails: what is left
  /// does the guest no harm.
  static func cancel(_ handles: [Handle], logger: Logger) async {
    await withTaskGroup(of: Void.self) { group in
      for handle in handles { group.addTask { await cancel(handle, logger) } }
    }
  }

  private static func cancel(_ handle: Handle, _ logger: Logger) async {
    do {
      guard let move = try await returned(handle), !move.phase.isOver else { return }
      try await ask(handle, BlockRequest(.cancel, disk: handle.disk), orderMs)
    } catch {
      logger.warning(
        "a move of a disk is left with its server; `godwit block cancel` ends it",
        metadata: ["server": "\(handle.control)", "error": "\(error)"])
    }
  }
}
