import Base
import HostIO
import QEMUStream
import Testing
import Wire

@testable import Agent

/// The thread that feeds QEMU, held up where it would read a disk that doesn't answer.
@Suite(.timeLimit(.minutes(3))) struct StuckFeederTests {
  static let block = RAMBlock(name: "mem0", length: 64 << 12)

  /// The end waits for it no longer than it must; and what it does when it comes back reaches nobody.
  @Test func theEndDoesNotWaitForIt() async throws {
    let (near, far) = try Sockets.unixPair()
    let (peer, _) = try Sockets.unixPair()
    let (isHeld, isFree) = (Guarded(false), Guarded(false))
    let (applied, failures) = (Events<UInt64>(), Events<RelayFailure>())
    let control = ControlLane(peer, silenceLimitMs: 60_000)
    let feeder = StreamFeeder(
      qemu: near,
      unpacking: FeederUnpacking(
        unpacking: PageUnpacking(), snapshot: nil, vault: nil, images: nil, gang: nil,
        fetches: StreamFetches(), control: control, blockName: { _ in nil }),
      layout: {
        isHeld.update { $0 = true }
        _ = isFree.wait { $0 ? true : nil }
        return ([Self.block], 2)
      },
      isInPlace: { _ in false }, handOver: {})
    try await Blocking.run {
      feeder.start(
        onApplied: { (sequence, _) throws(RelayFailure) in applied.add(sequence) },
        onFailure: { failures.add($0) })
      let run = PageRun(block: 0, pageClass: .zero, firstPage: 0, count: 64)
      let header = BatchHeader(place: SequencedHeader(sequence: 1, after: 0), runs: [run])
      feeder.append(1, .pages(header, nil))
      feeder.append(2, .verbatim([1, 2, 3]))
      #expect(isHeld.wait(timeoutMs: 20_000) { $0 ? true : nil } == true)
      feeder.stop()
      #expect(!isFree.read { $0 })
      isFree.update { $0 = true }
      // Now it ends, which a second stop waits for.
      feeder.stop()
      let buffer = PageBuffer(byteCount: 16)
      let count = try far.read(into: buffer.part(0, 16))
      #expect(count == 0)
    }
    #expect(applied.all.isEmpty && failures.all.isEmpty)
  }
}
