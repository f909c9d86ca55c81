import Base
import HostIO
import QMP
import Strategy
import Testing
import Wire

@testable import Agent

/// Pulls keep to the limits of the migration and of the host; real QEMUs under TCG.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: !QEMUProgram.installed.isEmpty))
struct PacedPullTests {
  /// What is given ahead waits for its turn, which comes in a million seconds; what the guest waits for doesn't.
  @Test func faultsDoNotWait() async throws {
    let pair = try await PullPair(QEMUProgram.installed[0])
    let pacer = PullPacer(bandwidth: ByteRate(bytesPerSecond: 1 << 20), share: nil)
    #expect(pacer.take(1 << 40) > 1 << 39)
    let rig = try await LocalPullRig(pair, pacer: pacer, isHeld: true)
    #expect(try await pair.wait(for: .postcopyActive) == .postcopyActive)
    #expect(try await pair.loadedState() == .paused)
    try await pair.to.client.cont()
    let server = rig.server
    while server.counters.pages.urgentPages == 0 { try await Task.sleep(for: .milliseconds(10)) }
    server.setPrefetching(true)
    while server.counters.pages.aheadPages == 0 { try await Task.sleep(for: .milliseconds(10)) }
    // A frame of each lane, and no more for as long as anybody looks.
    try await Task.sleep(for: .milliseconds(300))
    let most = UInt64(2 * PullConnections.aheadPages)
    #expect(server.counters.pages.aheadPages <= most, "\(server.counters.pages)")
    // Whoever waits for his turn doesn't hold up the end.
    try await rig.stop()
  }

  /// The host's link counts as well; everything arrives.
  @Test func theHostsLinkIsKept() async throws {
    let pair = try await PullPair(QEMUProgram.installed[0])
    let link = OutgoingLink(rate: ByteRate(bytesPerSecond: 32 << 20))
    let share = link.join()
    let rig = try await LocalPullRig(pair, pacer: PullPacer(bandwidth: nil, share: share))
    let done = try await rig.end()
    #expect(done.placedPages == UInt64(rig.invalid.population))
    #expect(try await pair.differences() == 0)
    try await rig.stop()
    share.leave()
  }
}
