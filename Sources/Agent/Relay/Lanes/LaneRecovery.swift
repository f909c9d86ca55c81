import Base
import HostIO
import Wire

/// How a lane whose connection broke comes back, and how long that may take.
struct LaneRecovery: Sendable {
  /// First and longest pause between two attempts, in milliseconds.
  static let pauseMinMs: UInt64 = 50
  static let pauseMaxMs: UInt64 = 2000

  /// Longest time without a connection, in milliseconds; asked again before each attempt, since a
  /// guest that has been stopped meanwhile cannot wait as long.
  let patienceMs: @Sendable () -> UInt64
  /// Opens a connection for the lane again; nil at the destination, to which it is opened.
  let dial: (@Sendable (Hello.Role, UInt16) throws -> any ByteConnection)?

  /// Tries until there is a connection; nil when `isOver` says that none is needed any more.
  ///
  /// - Parameter pause: waits so many milliseconds, or less when something has changed.
  func restore(
    _ role: Hello.Role, lane: UInt16, after failure: RelayFailure, isOver: () -> Bool,
    pause: (UInt64) -> Void
  ) throws(RelayFailure) -> (any ByteConnection)? {
    let brokenAtMs = MonotonicClock.nowMs
    var last = failure
    var pauseMs = Self.pauseMinMs
    while !isOver() {
      if let dial {
        do { return try dial(role, lane) } catch let error as Ending {
          // Said by an agent that is there: asking again gives the same answer.
          throw .peer("not taken up again: \(error)")
        } catch {
          last = error as? RelayFailure ?? .peer("\(error)")
        }
      }
      let waitedMs = MonotonicClock.nowMs - brokenAtMs
      let patienceMs = patienceMs()
      guard waitedMs < patienceMs else {
        throw .peer("no connection for \(Milliseconds.format(waitedMs)); last: \(last)")
      }
      pause(min(pauseMs, patienceMs - waitedMs))
      pauseMs = min(pauseMs * 2, Self.pauseMaxMs)
    }
    return nil
  }
}
