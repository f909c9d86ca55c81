import Base
import HostIO
import QEMUStream
import Testing
import Wire

@testable import Agent

/// What a source may do wrong on its lanes: each ends in an error that says so, and QEMU gets
/// nothing of it.
@Suite(.serialized, .timeLimit(.minutes(3))) struct BatchAttackTests {
  static let blocks = [
    RAMBlock(name: "mem0", length: 1 << 20), RAMBlock(name: "mem1", length: 8 << 12),
  ]

  /// A whole frame. On the control lane most are numbered; `number` is the first one's then.
  static func frame(_ type: FrameType, _ payload: [UInt8], number: UInt64? = nil) -> [UInt8] {
    let isNumbered = [FrameType.message, .verbatim, .ramEnd, .tail].contains(type)
    var bytes: [UInt8] = []
    FrameHeader(
      type: type, payloadLength: payload.count, number: number ?? (isNumbered ? 1 : 0),
      payloadChecksum: FrameChecksum.of(payload.span.bytes)
    ).encode(into: &bytes)
    return bytes + payload
  }

  /// A header that no encoder writes, with a checksum that is right.
  static func header(type: UInt16, reserved: UInt16 = 0, length: UInt32) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendBE(FrameHeader.magic)
    bytes.appendBE(type)
    bytes.appendBE(reserved)
    bytes.appendBE(length)
    bytes += [UInt8](repeating: 0, count: 16)
    bytes.appendBE(UInt32(truncatingIfNeeded: FrameChecksum.of(bytes.span.bytes)))
    return bytes
  }

  /// A batch as it stands on the wire; nothing of it is checked.
  static func batch(
    _ sequence: UInt64, after: UInt64 = 0, runCount: UInt32? = nil,
    _ runs: [(block: UInt16, raw: Bool, first: UInt64, count: UInt32)], bytes: Int? = nil
  ) -> [UInt8] {
    var payload: [UInt8] = []
    payload.appendBE(sequence)
    payload.appendBE(after)
    payload.appendBE(runCount ?? UInt32(runs.count))
    var raw = 0
    for run in runs {
      payload.appendBE(run.block)
      payload += [run.raw ? 1 : 0, 0]
      payload.appendBE(run.count)
      payload.appendBE(run.first)
      if run.raw { raw += Int(run.count) }
    }
    payload += [UInt8](repeating: 9, count: bytes ?? raw * Page.size)
    return frame(.pages, payload)
  }

  struct Attack: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// Part of the error.
    let expected: String
    let bytes: @Sendable () -> [UInt8]
    init(_ name: String, _ expected: String, _ bytes: @escaping @Sendable () -> [UInt8]) {
      (testDescription, self.expected, self.bytes) = (name, expected, bytes)
    }
  }

  static let attacks: [Attack] = [
    Attack("raw run outside RAM", "outside RAM") { batch(1, [(1, true, 7, 2)]) },
    Attack("zero run outside RAM", "outside RAM") { batch(1, [(0, false, 255, 2)]) },
    Attack("no such block", "outside RAM") { batch(1, [(2, false, 0, 1)]) },
    Attack("first page of 2^51", "outside RAM") { batch(1, [(0, false, 1 << 51, 1)]) },
    Attack("first page of 2^64 - 1", "page run") { batch(1, [(0, false, .max, 1)]) },
    Attack("empty run", "page run") { batch(1, [(0, false, 0, 0)]) },
    Attack("2^32 - 1 zero pages", "zero pages") { batch(1, [(0, false, 0, .max)]) },
    Attack("65537 zero pages in two runs", "zero pages") {
      batch(1, [(0, false, 0, 65536), (1, false, 0, 1)])
    },
    Attack("129 raw pages", "raw pages") { batch(1, [(0, true, 0, 129)], bytes: 0) },
    Attack("2^32 - 1 raw pages, no bytes", "raw pages") {
      batch(1, [(0, true, 0, .max)], bytes: 0)
    },
    Attack("page bytes missing", "page bytes") { batch(1, [(0, true, 0, 2)], bytes: 4096) },
    Attack("page bytes too many", "page bytes") { batch(1, [(0, false, 0, 2)], bytes: 1) },
    Attack("1025 runs", "1025 runs") {
      batch(1, (0..<1025).map { _ in (0, false, 0, 1) })
    },
    Attack("2^32 - 1 runs", "4294967295 runs") { batch(1, runCount: .max, []) },
    Attack("unknown class", "page class") {
      var bytes = batch(1, [(0, false, 0, 1)])
      bytes[FrameHeader.byteCount + 20 + 2] = 7
      return frame(.pages, Array(bytes.dropFirst(FrameHeader.byteCount)))
    },
    Attack("sequence 0", "frame sequence") { batch(0, []) },
    Attack("after = sequence", "frame sequence") { batch(5, after: 5, []) },
    Attack("after > sequence", "frame sequence") { batch(5, after: .max, []) },
    Attack("sequence far ahead", "tooFarAhead") { batch(70_000, []) },
    Attack("sequence 2^64 - 1", "tooFarAhead") { batch(.max, after: .max - 1, []) },
    Attack("more bytes than the window", "agreed") {
      (2..<60).flatMap { batch($0, after: 1, [(0, true, 0, 128)]) }
    },
    Attack("payload of 2^32 - 1 bytes", "frame length") { header(type: 4, length: .max) },
    Attack("unknown type", "frame type") { header(type: 99, length: 0) },
    Attack("reserved bits", "reserved") { header(type: 4, reserved: 1, length: 0) },
    Attack("message on a data lane", "message frame on a data lane") { frame(.message, [1]) },
    Attack("tail on a data lane", "tail frame on a data lane") {
      frame(.tail, [UInt8](repeating: 0, count: 16))
    },
    Attack("batch of 3 bytes", "batch of 3 bytes") { frame(.pages, [1, 2, 3]) },
  ]

  @Test(arguments: attacks, [true, false]) func isRefused(attack: Attack, inPlace: Bool) throws {
    let memory = try MemoryFile(byteCount: 1 << 20, sealed: true)
    let file = try SharedFile(path: memory.path, offset: 0, length: 1 << 20, writable: true)
    let rig = try DestinationRig(shared: inPlace ? ["mem0": file] : [:], windowBytes: 1 << 20)
    defer { rig.stop() }
    try rig.relay.setLayout(Self.blocks, sectionID: 2)
    let before = residentBytes()
    let bytes = attack.bytes()
    let lane = rig.lanes[0]
    _ = WorkerThread("test-attack") {
      _ = try? lane.writeAll(bytes.span.bytes)
      shutdownWrite(lane)
    }
    let failure = try #require(rig.events.failure(), "not refused")
    #expect("\(failure)".contains(attack.expected), "\(failure)")
    #expect(residentBytes() < before + 256 << 20)
  }

  /// Sent again after a break, or by an attacker: dropped, and nothing reaches QEMU twice.
  @Test func framesAgain() throws {
    let rig = try DestinationRig()
    defer { rig.stop() }
    try rig.relay.setLayout(Self.blocks, sectionID: 2)
    let batch = Self.batch(1, [(0, true, 0, 1)])
    let parked = Self.batch(3, after: 2, [(0, true, 1, 1)])
    let bytes = batch + batch + parked + parked + Self.batch(2, after: 1, []) + batch
    try rig.lanes[0].writeAll(bytes.span.bytes)
    let collector = Collector(rig.qemu)
    let arrived = collector.waitFor(count: 2 * Page.size)
    #expect(arrived)
    collector.waitForQuiet()
    #expect(collector.count < 3 * Page.size)
    #expect(rig.events.failure(timeoutMs: 0) == nil)
  }

  /// A lane that ends in the middle may come again: nothing of the cut frame is applied.
  @Test(arguments: [7, 40, 70, 4000]) func cutFrames(count: Int) throws {
    let rig = try DestinationRig()
    defer { rig.stop() }
    try rig.relay.setLayout(Self.blocks, sectionID: 2)
    let batch = Self.batch(1, [(0, true, 0, 2)])
    try rig.lanes[0].writeAll(Array(batch.prefix(count)).span.bytes)
    shutdownWrite(rig.lanes[0])
    let (near, far) = try Sockets.tcpPair()
    rig.relay.addLane(far, number: 1)
    try near.writeAll(batch.span.bytes)
    let collector = Collector(rig.qemu)
    let arrived = collector.waitFor(count: 2 * Page.size)
    #expect(arrived)
    #expect(rig.events.failure(timeoutMs: 0) == nil)
  }

  @Test func pagesBeforeTheLayout() throws {
    let rig = try DestinationRig()
    defer { rig.stop() }
    let batch = Self.batch(1, [(0, false, 0, 1)])
    try rig.lanes[0].writeAll(batch.span.bytes)
    let failure = try #require(rig.events.failure())
    #expect("\(failure)".contains("before the RAM layout"), "\(failure)")
  }

  /// Pages that were checked against one layout wait for QEMU while another one comes.
  @Test func secondLayout() throws {
    let rig = try DestinationRig()
    defer { rig.stop() }
    let frames = FrameSocket(rig.control)
    try frames.send(
      .message, PeerMessage.layout(Self.blocks, sectionID: 2).encoded(), number: 1)
    // The data lane's thread must not be quicker.
    let isKnown = rig.relay.layout.wait(timeoutMs: 60_000) { $0 == nil ? nil : true }
    #expect(isKnown == true)
    // QEMU reads nothing, so most of this waits in the queue.
    let many = (1...200 as ClosedRange<UInt64>).flatMap { Self.batch($0, [(1, true, 0, 8)]) }
    _ = WorkerThread("test-attack") { [lane = rig.lanes[0]] in
      _ = try? lane.writeAll(many.span.bytes)
    }
    MonotonicClock.sleep(us: 300_000)
    try frames.send(
      .message, PeerMessage.layout([RAMBlock(name: "x", length: 4096)], sectionID: 2).encoded(),
      number: 2)
    let end = try #require(rig.ends.first { $0 }, "the control lane goes on")
    #expect("\(end)".contains("second RAM layout"), "\(end)")
    let collector = Collector(rig.qemu)
    let arrived = collector.waitFor(count: 200 * 8 * 4096)
    #expect(arrived, "what was accepted before did not reach QEMU: \(collector.count) bytes")
  }

  @Test func ramEndBeforeTheLayout() throws {
    let rig = try DestinationRig()
    defer { rig.stop() }
    var place: [UInt8] = []
    SequencedHeader(sequence: 1, after: 0).encode(into: &place)
    try FrameSocket(rig.control).send(.ramEnd, place, number: 1)
    let failure = try #require(rig.events.failure())
    #expect("\(failure)".contains("before the RAM layout"), "\(failure)")
  }

  @Test(arguments: [FrameType.hello, .welcome, .pages, .acknowledge, .verbatim, .ramEnd, .tail])
  func frameThatDoesNotBelongOnTheControlLane(type: FrameType) throws {
    let rig = try DestinationRig()
    defer { rig.stop() }
    try FrameSocket(rig.control).send(type, [0, 0, 0, 0, 0, 0, 0, 0], number: 1)
    let end = try #require(rig.ends.first { $0 }, "the control lane goes on")
    guard case .protocolViolation = end else { throw end }
  }

  /// A lane that comes when the migration is over is closed, and no thread waits for it.
  @Test func lateLane() throws {
    let rig = try DestinationRig()
    rig.stop()
    let (near, far) = try Sockets.tcpPair()
    rig.relay.addLane(far, number: 9)
    near.setTimeout(ms: 5000)
    let end = try near.read(into: PageBuffer(byteCount: 16).part(0, 16))
    #expect(end == 0)
  }
}
