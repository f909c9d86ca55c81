import HostIO
import Testing

@testable import Agent

/// What holds QEMU's stream back, and what doesn't.
@Suite(.timeLimit(.minutes(1))) struct GateTests {
  /// QEMU that stops a guest by itself holds its main lock until all that it writes is read: whoever waited for its monitor
  /// with the gate closed would wait for ever.
  @Test func aQEMUThatHasStoppedIsRead() async throws {
    let ledger = SourceLedger(memoryLimit: 1 << 20)
    ledger.setGate(.closed)
    #expect(!ledger.state.read { $0.isReadable })
    async let reader: Void = Blocking.run { ledger.waitForGate() }
    ledger.noteQEMUStopped(true)
    try await reader
    // Whatever is decided meanwhile.
    ledger.setGate(.closed)
    #expect(ledger.state.read { $0.isReadable })
    ledger.noteQEMUStopped(false)
    #expect(!ledger.state.read { $0.isReadable })
  }

  @Test func aSilentMonitorOpensNothingButAClosedGate() {
    let ledger = SourceLedger(memoryLimit: 1 << 20)
    ledger.setGate(.paced(pages: 4))
    ledger.openIfClosed()
    #expect(ledger.state.read { $0.gate } == .paced(pages: 4))
    ledger.setGate(.closed)
    ledger.openIfClosed()
    #expect(ledger.state.read { $0.gate } == .open)
  }
}
