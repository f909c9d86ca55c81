import Base
import HostIO

/// Counts what a move sends over the link, beside the traffic of others that it runs against.
struct WireMeter: Sendable {
  /// What was found.
  struct Reading: Sendable {
    /// Both directions, headers included; the others' data are taken off, not their headers. Nil without a link.
    var bytes: UInt64?
    /// What the others got through; nil: there were none.
    var competingBytesPerSecond: UInt64?
  }

  private let hosts: HostPair
  private let competing: CompetingTraffic?
  private let before: (wire: UInt64?, competing: UInt64, atUs: UInt64)

  /// Begins to count.
  ///
  /// - Parameter competing: the others' traffic, which is under way; nil: there is none.
  static func start(_ hosts: HostPair, _ competing: CompetingTraffic?) async throws -> WireMeter {
    WireMeter(
      hosts: hosts, competing: competing,
      before: (try await hosts.wireBytes(), competing?.bytes ?? 0, MonotonicClock.nowUs))
  }

  func read() async throws -> Reading {
    let others = (competing?.bytes ?? 0) - before.competing
    var reading = Reading()
    if let first = before.wire, let now = try await hosts.wireBytes() {
      let all = now - min(first, now)
      reading.bytes = all - min(others, all)
    }
    if competing != nil {
      reading.competingBytesPerSecond = Ratio.scale(
        others, 1_000_000, over: max(MonotonicClock.nowUs - before.atUs, 1))
    }
    return reading
  }
}
