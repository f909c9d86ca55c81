import Base
import HostIO
import QEMUStream
import TestSupport
import Testing
import Wire

@testable import Agent

/// A source QEMU that writes nonsense: the relay fails with a reason or passes the bytes on; the
/// destination's half never takes it for an attack of the source agent.
@Suite(.serialized, .timeLimit(.minutes(4))) struct HostileQEMUTests {
  /// Feeds `bytes`, closes, and returns why the source's relay ended.
  private func failure(of bytes: [UInt8], _ what: String) throws -> RelayFailure {
    let before = residentBytes()
    let rig = try RelayRig(laneCount: 2)
    let collector = Collector(rig.destination.qemu)
    let writer = rig.feed(bytes, closing: true)
    let failure = try #require(rig.events.failure(), "\(what): no end")
    #expect(residentBytes() < before + 512 << 20, "\(what)")
    rig.stop()
    writer.join()
    _ = collector.finish()
    let broken = rig.destination.events.failure(timeoutMs: 0)
    if let broken, case .protocolViolation = broken { throw broken }
    #expect(!"\(failure)".isEmpty)
    return failure
  }

  private func expectQEMUIsBlamed(_ failure: RelayFailure, _ what: String) {
    switch failure {
    case .qemu(let reason): #expect(!reason.isEmpty, "\(what)")
    case .memory(let reason): #expect(reason.contains("memory limit"), "\(what): \(reason)")
    default: Issue.record("\(what): \(failure)")
    }
  }

  @Test func randomBytes() throws {
    for seed in 0..<40 as Range<UInt64> {
      var random = SplitMix64(seed: seed)
      var bytes = (0..<Int(random.next() % 20_000)).map { _ in
        UInt8(truncatingIfNeeded: random.next())
      }
      // Every other one begins as a stream.
      if seed % 2 == 0 { bytes = SyntheticStream().bytes + bytes }
      expectQEMUIsBlamed(try failure(of: bytes, "seed \(seed)"), "seed \(seed)")
    }
  }

  @Test func truncatedStreams() throws {
    let bytes = RelayEndToEndTests.busyGuest(seed: 4)
    for seed in 0..<30 as Range<UInt64> {
      var random = SplitMix64(seed: seed)
      let length = seed < 15 ? Int(random.next() % 200) : Int(random.next() % UInt64(bytes.count))
      let failure = try failure(of: Array(bytes.prefix(length)), "\(length) bytes")
      #expect("\(failure)".contains("closed early"), "\(length) bytes: \(failure)")
    }
  }

  /// Captures with some bytes changed, most of them where the structure is.
  @Test(arguments: ["7.2-numa", "10.0-numa", "10.0-return-path", "7.2-dirty-bitmap"])
  func mutatedCaptures(name: String) throws {
    let golden = try GoldenStream.named(name).bytes
    for seed in 0..<15 as Range<UInt64> {
      var random = SplitMix64(seed: seed)
      var bytes = golden
      for _ in 0...Int(random.next() % 3) {
        let range = random.next() % 2 == 0 ? 600 : UInt64(bytes.count)
        bytes[Int(random.next() % range)] = UInt8(truncatingIfNeeded: random.next())
      }
      expectQEMUIsBlamed(try failure(of: bytes, "seed \(seed)"), "\(name), seed \(seed)")
    }
  }

  @Test func absurdBlockLists() throws {
    var stream: [UInt8] = []
    let huge = [RAMBlock(name: "mem0", length: 1 << 46)]
    stream = SyntheticStream(blocks: huge).bytes
    let failure = try failure(of: stream, "64 TiB")
    #expect("\(failure)".contains("memory limit"), "\(failure)")
    for length in [1 << 47, 1 << 63] as [UInt64] {
      let blocks = [RAMBlock(name: "mem0", length: length)]
      let failure = try self.failure(of: SyntheticStream(blocks: blocks).bytes, "\(length)")
      #expect("\(failure)".contains("over the limit"), "\(failure)")
    }
    let many = (0..<1025).map { RAMBlock(name: "b\($0)", length: 4096) }
    let refused = try self.failure(of: SyntheticStream(blocks: many).bytes, "1025 blocks")
    #expect("\(refused)".contains("RAM block list"), "\(refused)")
  }

  /// A destination that acknowledges what was never sent.
  @Test func acknowledgementOfTheFuture() throws {
    let queue = SendQueue(windowMax: .max, bandwidth: nil)
    #expect(throws: RelayFailure.self) { try queue.acknowledged(through: 1) }
    #expect(throws: RelayFailure.self) { try queue.acknowledged(through: .max) }
    queue.announce(5)
    try queue.acknowledged(through: 5)
    try queue.acknowledged(through: 2)
    #expect(throws: RelayFailure.self) { try queue.acknowledged(through: 6) }
    // A window of 2^64 - 1 bytes is what the destination says, not what is sent.
    #expect(queue.snapshot.inFlight == 0)
  }
}
