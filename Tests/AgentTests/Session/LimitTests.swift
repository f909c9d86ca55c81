import HostIO
import Logging
import Testing
import Wire

@testable import Agent

/// What an agent lets begin.
@Suite struct LimitTests {
  @Test(.timeLimit(.minutes(1))) func anAgentThatDrainsStartsNothing() async throws {
    let rig = try AgentUnderAttack()
    await rig.agent.drain()
    let record = await rig.agent.migrate(MigrationRequest(vm: "v", destination: "h")) { _ in }
    #expect(record.outcome == .refused)
    #expect(record.reason?.contains("shutting down") == true)
    await rig.stop()
  }

  /// A destination that takes no more refuses before anything has begun at the source.
  @Test(.timeLimit(.minutes(1))) func aFullDestinationRefuses() async throws {
    let rig = try AgentUnderAttack()
    await rig.agent.drain()
    let (port, security) = (rig.port, PeerSecurity(rig.agent.configuration))
    await #expect {
      try await Blocking.run {
        try PeerConnection.open(
          "127.0.0.1:\(port)", AgentUnderAttack.hello(seed: 1), security: security,
          timeoutMs: 10_000)
      }
    } throws: { error in
      guard case .refused(let refusals)? = error as? Ending else { return false }
      return "\(refusals)".contains("shutting down")
    }
    await rig.stop()
  }
}
