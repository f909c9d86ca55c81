import HostIO
import NBD
import Synchronization

/// How long a server may owe answers and send nothing before its connection is given up. The owner's choice: it knows
/// what waits for these answers, and what it can do without them.
public struct SilenceLimit: Sendable, Hashable {
  /// Who it is, for messages; guests see them, so without paths of this host.
  public var server: String
  /// In milliseconds, while it owes no flush.
  public var answerMs: UInt64
  /// The same while it owes a flush or a durable write: a disk with a large cache behind it takes its time, and is no
  /// less alive.
  public var flushMs: UInt64

  public init(server: String, answerMs: UInt64, flushMs: UInt64) {
    (self.server, self.answerMs, self.flushMs) = (server, answerMs, flushMs)
  }

  /// Where a disk goes: the guest goes on without it for a while.
  public static let destination = SilenceLimit(
    server: "the destination", answerMs: 10_000, flushMs: 120_000)
  /// The guest's requests wait for it, and one that is given up in the middle of a flush costs the guest an error.
  public static let surrogate = SilenceLimit(
    server: "the surrogate", answerMs: 10_000, flushMs: 120_000)

  /// A backup's, which never owes a flush.
  static func backup(_ number: Int, ms: UInt64) -> SilenceLimit {
    SilenceLimit(server: "backup \(number)", answerMs: ms, flushMs: ms)
  }
}

/// A server owed answers, and sent nothing for too long.
public struct ServerSilence: Error, Sendable, Hashable, CustomStringConvertible {
  public let server: String
  /// Since the last that came from it, or since it owes something, in milliseconds.
  public let silentMs: UInt64
  /// Requests that it owed answers for. Durable writes count as flushes.
  public let reads, writes, flushes, others: Int

  public var description: String {
    let owed = [(reads, "reads"), (writes, "writes"), (flushes, "flushes"), (others, "others")]
      .filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }.joined(separator: ", ")
    return "\(server) was silent for \(silentMs) ms and owed answers (\(owed))"
  }
}

/// Counts what a server owes, and ends its connection when nothing comes for too long.
final class SilenceWatch: Sendable {
  /// What is owed, as far as it matters for how long that may take.
  enum Kind: Sendable {
    case read, write, flush, other

    init(_ command: NBDCommand, _ flags: CommandFlags) {
      switch command {
      // Zeros and discards of a gigabyte may have to be written.
      case _ where flags.contains(.fua), .flush, .writeZeroes, .trim: self = .flush
      case .read: self = .read
      case .write: self = .write
      case .disconnect, .cache, .blockStatus, .resize: self = .other
      }
    }
  }

  private struct State: Sendable {
    var (reads, writes, flushes, others) = (0, 0, 0, 0)
    /// Since when nothing has come; counts while something is owed.
    var sinceMs: UInt64 = 0
    var isOver = false
    var found: ServerSilence?

    var total: Int { reads + writes + flushes + others }

    mutating func add(_ count: Int, _ kind: Kind) {
      switch kind {
      case .read: reads += count
      case .write: writes += count
      case .flush: flushes += count
      case .other: others += count
      }
    }
  }

  /// Longest time between two looks, in milliseconds, and their number within a limit.
  private static let lookMsMax: UInt64 = 500
  private static let looks: UInt64 = 8
  /// When a look comes so many times too late, it was this process that stood still.
  private static let lateLooks: UInt64 = 4

  private let limit: SilenceLimit
  private let state = Mutex(State())

  init(_ limit: SilenceLimit) { self.limit = limit }

  /// What was found; nil: the server wasn't silent.
  var silence: ServerSilence? { state.withLock { $0.found } }

  func noteSent(_ kind: Kind) {
    let nowMs = MonotonicClock.nowMs
    state.withLock { state in
      if state.total == 0 { state.sinceMs = nowMs }
      state.add(1, kind)
    }
  }

  /// Bytes have come.
  func noteHeard() {
    let nowMs = MonotonicClock.nowMs
    state.withLock { $0.sinceMs = nowMs }
  }

  func noteAnswer(_ kind: Kind) { state.withLock { $0.add(-1, kind) } }

  /// The connection is over.
  func end() { state.withLock { $0.isOver = true } }

  /// Looks until `end`, with a thread of its own: callers may all be stuck in a write that the server doesn't read.
  ///
  /// - Parameter giveUp: ends the connection, so that every caller is told.
  func start(_ giveUp: @escaping @Sendable () -> Void) {
    let least = min(limit.answerMs, limit.flushMs)
    let lookMs = min(max(least / Self.looks, 1), Self.lookMsMax)
    _ = WorkerThread("block-watch") { [self] in
      var beforeMs = MonotonicClock.nowMs
      while !isOver() {
        let nowMs = MonotonicClock.nowMs
        // What has come meanwhile nobody has read yet.
        if nowMs - min(beforeMs, nowMs) > lookMs * Self.lateLooks { noteHeard() }
        beforeMs = nowMs
        if isTooLong(nowMs) { return giveUp() }
        MonotonicClock.sleep(us: lookMs * 1000)
      }
    }
  }

  private func isOver() -> Bool { state.withLock { $0.isOver } }

  private func isTooLong(_ nowMs: UInt64) -> Bool {
    state.withLock { state in
      let limitMs = state.flushes > 0 ? limit.flushMs : limit.answerMs
      let silentMs = nowMs - min(state.sinceMs, nowMs)
      guard state.total > 0, silentMs > limitMs else { return false }
      state.found = ServerSilence(
        server: limit.server, silentMs: silentMs, reads: state.reads, writes: state.writes,
        flushes: state.flushes, others: state.others)
      return true
    }
  }
}
