import Base
import HostIO
import Testing
import Wire

@testable import Agent

/// A control lane whose connection changes while a frame is being handled.
@Suite(.serialized, .timeLimit(.minutes(3))) struct ReaderOrderTests {
  private struct Look: Sendable {
    /// Frames that came in, and those that were handled, by their first byte.
    var begun: [UInt8] = []
    var handled: [UInt8] = []
    var mayEnd = false
  }

  /// How long the frame behind has to overtake the one that is being handled.
  private static let temptationMs: UInt64 = 500

  private static func frame(_ number: UInt8) -> [UInt8] {
    BatchAttackTests.frame(.message, [number], number: UInt64(number))
  }

  @Test func framesOfTheNextConnectionWait() throws {
    let (near, far) = try Sockets.tcpPair()
    let lane = ControlLane(far, silenceLimitMs: 20_000)
    let looks = Guarded(Look())
    lane.start(
      onFrame: { (_, payload) throws(RelayFailure) in
        let number = payload.first ?? 0
        looks.update { $0.begun.append(number) }
        if number == 1 { _ = looks.wait { $0.mayEnd ? true : nil } }
        looks.update { $0.handled.append(number) }
      }, onEnd: { _ in })
    lane.setRecovery(LaneRecovery(patienceMs: { 20_000 }, dial: nil))
    try near.writeAll(Self.frame(1).span.bytes)
    let isBusy = looks.wait(timeoutMs: 10_000) { $0.begun == [1] ? true : nil }
    #expect(isBusy == true)
    let (again, farAgain) = try Sockets.tcpPair()
    lane.attach(farAgain)
    // First what was received, as a peer says it: this is heard at once.
    let heartbeat = BatchAttackTests.frame(.heartbeat, [UInt8](repeating: 0, count: 8))
    try again.writeAll((heartbeat + Self.frame(2) + Self.frame(3)).span.bytes)
    let isKnown = lane.state.wait(timeoutMs: 10_000) { $0.peerIsKnown ? true : nil }
    #expect(isKnown == true)
    let overtaken = looks.wait(timeoutMs: Self.temptationMs) { $0.begun.count > 1 ? true : nil }
    #expect(overtaken == nil)
    looks.update { $0.mayEnd = true }
    let all = looks.wait(timeoutMs: 10_000) { $0.handled.count == 3 ? $0.handled : nil }
    #expect(all == [1, 2, 3])
    lane.fail(.stopped)
    near.shutdown()
    again.shutdown()
  }
}
