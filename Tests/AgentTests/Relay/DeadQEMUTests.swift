import Base
import HostIO
import QEMUStream
import TestSupport
import Testing
import Wire

@testable import Agent

/// What a QEMU leaves in its socket that is killed: its monitor's end is heard before that is read.
@Suite(.timeLimit(.minutes(3))) struct DeadQEMUTests {
  /// Everything had arrived, though nobody had read it, and QEMU was still being held back.
  @Test func aWholeStreamIsWhole() async throws {
    #expect(try await wasWhole { $0 })
  }

  @Test(arguments: [1, 40, 5000]) func oneThatEndsEarlyIsNot(missing: Int) async throws {
    #expect(try await !wasWhole { Array($0.dropLast(missing)) })
  }

  private func wasWhole(_ cut: ([UInt8]) -> [UInt8]) async throws -> Bool {
    var stream = SyntheticStream()
    let content = SyntheticStream.page
    stream.part { writer, bytes in
      for page in 0..<8 as Range<UInt64> {
        writer.page(block: 0, offset: page << 12, bytes: content.span.bytes, into: &bytes)
      }
    }
    stream.ramEnd()
    stream.device("dev", [UInt8](repeating: 3, count: 100))
    StreamItemWriter.end(description: SyntheticStream.description, into: &stream.bytes)
    let bytes = cut(stream.bytes)
    return try await Blocking.run {
      let rig = try RelayRig(laneCount: 1)
      let collector = Collector(rig.destination.qemu)
      defer {
        rig.stop()
        _ = collector.finish()
      }
      rig.source.ledger.setGate(.closed)
      rig.feed(bytes, closing: true).join()
      return rig.source.readToEnd(timeoutMs: 60_000)
    }
  }
}
