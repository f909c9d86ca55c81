import Base
import HostIO
import QEMUStream
import TestSupport
import Testing
import Wire

@testable import Agent

/// Lanes that break, everywhere and again and again: neither QEMU notices, no page is lost, none is
/// applied out of order.
@Suite(.serialized, .timeLimit(.minutes(5))) struct ResumeTests {
  static func move(
    _ bytes: [UInt8], over wire: FlakyWire, laneCount: Int, compaction: CompactionPlan? = nil
  ) throws -> MemoryImage {
    let before = try MemoryImage(of: bytes)
    let rig = try RelayRig(
      laneCount: laneCount, compaction: compaction, reconnect: { try wire.connect() })
    defer { rig.stop() }
    let collector = Collector(rig.destination.qemu)
    rig.feed(bytes, closing: false).join()
    for _ in 0..<2400 {
      if let after = try? MemoryImage(of: collector.bytes),
        (after.tail.count, after.opaque.count) == (before.tail.count, before.opaque.count)
      {
        break
      }
      MonotonicClock.sleep(us: 50_000)
    }
    let failures = [
      rig.events.failure(timeoutMs: 0), rig.destination.events.failure(timeoutMs: 0),
      rig.linkEnds.first(timeoutMs: 0) { $0 }, rig.destination.ends.first(timeoutMs: 0) { $0 },
    ].compactMap(\.self).filter { if case .stopped = $0 { false } else { true } }
    #expect(failures.isEmpty, "\(failures)")
    return try MemoryImage(of: collector.bytes)
  }

  @Test(arguments: [1, 2, 3] as [UInt64], [1, 4])
  func nothingIsLost(seed: UInt64, laneCount: Int) throws {
    let bytes = RelayEndToEndTests.busyGuest(seed: seed)
    let wire = FlakyWire(seed: seed, breaks: 20, bytesMax: 300_000, flipsBits: false)
    expectSame(try MemoryImage(of: bytes), try Self.move(bytes, over: wire, laneCount: laneCount))
    #expect(wire.made > 1 + laneCount, "no connection broke")
  }

  @Test(arguments: [1, 2] as [UInt64], [1, 4])
  func changedBytesAreNoticed(seed: UInt64, laneCount: Int) throws {
    let bytes = RelayEndToEndTests.busyGuest(seed: seed)
    let wire = FlakyWire(seed: seed, breaks: 20, bytesMax: 300_000, flipsBits: true)
    expectSame(try MemoryImage(of: bytes), try Self.move(bytes, over: wire, laneCount: laneCount))
    #expect(wire.made > 1 + laneCount, "no connection was given up")
  }

  /// A stream that passes through unread goes over the control lane alone.
  @Test(arguments: [1, 2, 3] as [UInt64]) func whatIsPassedThrough(seed: UInt64) throws {
    let golden = try GoldenStream.named("10.0-multifd")
    let wire = FlakyWire(seed: seed, breaks: 12, bytesMax: 400_000, flipsBits: false)
    let before = try MemoryImage(of: golden.bytes)
    expectSame(before, try Self.move(golden.bytes, over: wire, laneCount: 2))
  }

  /// Nobody answers for longer than the patience: the lane ends, and says why.
  @Test func patienceEnds() throws {
    let (near, far) = try Sockets.tcpPair()
    let link = PeerLink(near)
    let ends = Events<RelayFailure>()
    link.lane.setRecovery(
      LaneRecovery(
        patienceMs: { 300 },
        dial: { _, _ in throw SystemError("connect to nowhere", code: 111) }))
    link.start(backlog: { 0 }) { if case .ended(let failure?) = $0 { ends.add(failure) } }
    far.shutdown()
    let end = try #require(ends.first { $0 }, "the lane still waits")
    #expect("\(end)".contains("no connection for"), "\(end)")
    #expect("\(end)".contains("connect to nowhere"), "\(end)")
    #expect(throws: RelayFailure.self) { try link.send(.commit) }
    link.close()
  }

  /// A network that changes every frame is of no use: the lane does not go on for ever.
  @Test func hopelessNetwork() throws {
    let rig = try DestinationRig()
    defer { rig.stop() }
    let noise = [UInt8](repeating: 0x51, count: FrameHeader.byteCount)
    for _ in 0...ControlLane.corruptMax {
      let (near, far) = try Sockets.tcpPair()
      rig.relay.addLane(far, number: 1)
      try near.writeAll(noise.span.bytes)
      near.setTimeout(ms: 20_000)
      let end = try near.read(into: PageBuffer(byteCount: 16).part(0, 16))
      #expect(end == 0, "the connection stays open")
    }
    let failure = try #require(rig.events.failure())
    guard case .corrupt = failure else { throw failure }
  }
}
