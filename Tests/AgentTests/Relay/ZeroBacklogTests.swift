import Base
import HostIO
import QEMUStream
import Strategy
import TestSupport
import Testing
import Wire

@testable import Agent

/// Pages of zeros for a destination whose QEMU takes them slowly.
@Suite(.timeLimit(.minutes(2))) struct ZeroBacklogTests {
  static let pageCount = 300_000

  /// As long as it takes none, few go, and most of the guest isn't even read: whoever stops it knows what it would wait for.
  @Test func theyWaitAtTheSource() throws {
    let rig = try RelayRig(laneCount: 2)
    defer { rig.stop() }
    let collector = Collector(rig.destination.qemu, reading: false)
    let length = UInt64(Self.pageCount) << 12
    var stream = SyntheticStream(blocks: [RAMBlock(name: "mem0", length: length)])
    stream.part { writer, bytes in
      for page in 0..<UInt64(Self.pageCount) {
        writer.zeroPage(block: 0, offset: page << 12, into: &bytes)
      }
    }
    stream.ramEnd()
    stream.device("timer", [1, 2, 3])
    StreamItemWriter.end(description: SyntheticStream.description, into: &stream.bytes)
    let writer = rig.feed(stream.bytes, closing: false)
    let queue = rig.source.queue
    var sent: UInt64 = 0
    // Until nothing goes any more.
    repeat {
      sent = queue.snapshot.counters.zeroPages
      MonotonicClock.sleep(us: 300_000)
    } while sent == 0 || sent != queue.snapshot.counters.zeroPages
    // What QEMU's socket holds (23,000); what may be on its way, which is more where the socket took all of that in one
    // sample; and one reading of the stream.
    #expect(sent < 120_000, "\(sent) pages went")
    let mentioned = rig.source.ledger.state.read { $0.ledger?.mentionedCount ?? 0 }
    #expect(mentioned < 200_000, "\(mentioned) pages were read")
    collector.isReading.update { $0 = true }
    let image = try rig.image(collector)
    #expect(image.pages.count == Self.pageCount)
    #expect(queue.snapshot.counters.zeroPages == UInt64(Self.pageCount))
    writer.join()
  }
}
