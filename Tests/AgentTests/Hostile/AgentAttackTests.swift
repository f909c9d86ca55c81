import Base
import Glibc
import HostIO
import Logging
import Testing
import Wire

@testable import Agent

/// Whatever connects to an agent's port: it is refused, and the next good peer is served.
@Suite(.serialized, .timeLimit(.minutes(4))) struct AgentAttackTests {
  private func attack(_ body: (AgentUnderAttack) async throws -> Void) async throws {
    let target = try AgentUnderAttack()
    let before = residentBytes()
    do {
      try await body(target)
      try await target.expectGoodPeerIsServed()
    } catch {
      await target.stop()
      throw error
    }
    #expect(residentBytes() < before + 256 << 20)
    await target.stop()
  }

  /// No answer but a refusal: an empty `welcome` would let the peer in.
  private func expectRefused(_ answers: [(FrameType, [UInt8])], _ what: String) {
    for (type, payload) in answers { #expect(type == .welcome && !payload.isEmpty, "\(what)") }
  }

  @Test func randomBytes() async throws {
    try await attack { target in
      for seed in 0..<150 as Range<UInt64> {
        var random = SplitMix64(seed: seed)
        let bytes = (0..<Int(random.next() % 4000)).map { _ in
          UInt8(truncatingIfNeeded: random.next())
        }
        expectRefused(try await target.answers(to: bytes), "seed \(seed)")
      }
    }
  }

  @Test func everyPrefixOfAHello() async throws {
    try await attack { target in
      let hello = AgentUnderAttack.frame(AgentUnderAttack.hello(seed: 1))
      for length in 0..<hello.count {
        let answers = try await target.answers(to: Array(hello.prefix(length)))
        #expect(answers.isEmpty, "\(length) bytes")
      }
    }
  }

  @Test func everyPrefixOfAPrepare() async throws {
    try await attack { target in
      let prepare = BatchAttackTests.frame(
        .message, try PeerMessageTests.prepare(vm: "nobody").encoded())
      for length in 0..<prepare.count {
        let hello = AgentUnderAttack.frame(AgentUnderAttack.hello(seed: UInt64(length)))
        let answers = try await target.answers(to: hello + prepare.prefix(length))
        // Let in, and then told off, or nothing: never an offer.
        #expect(answers.first?.0 == .welcome && answers.first?.1.isEmpty == true, "\(length)")
        for (type, payload) in answers.dropFirst() {
          guard type == .message, case .failed = try PeerMessage(decoding: payload) else {
            throw RelayFailure.protocolViolation("answered \(type) to \(length) bytes")
          }
        }
      }
    }
  }

  @Test func anotherVersionIsTold() async throws {
    try await attack { target in
      var hello: [UInt8] = []
      AgentUnderAttack.hello(seed: 2).encode(into: &hello)
      hello[1] = 9
      let bytes = BatchAttackTests.frame(.hello, hello)
      let answers = try await target.answers(to: bytes, closing: false)
      let text = String(decoding: try #require(answers.first?.1), as: UTF8.self)
      #expect(text.contains("version 9 is not supported"), "\(text)")
    }
  }

  @Test(
    arguments: [
      BatchAttackTests.header(type: 1, length: .max),
      BatchAttackTests.header(type: 3, length: 0x80_0000),
      BatchAttackTests.header(type: 42, length: 0),
      BatchAttackTests.header(type: 1, reserved: 1, length: 38),
      [UInt8](repeating: 0x51, count: 64),
    ]) func badFirstFrames(bytes: [UInt8]) async throws
  {
    try await attack { target in
      expectRefused(try await target.answers(to: bytes, closing: false), "\(bytes)")
    }
  }

  /// After the hello: each ends the migration with a reason that the peer can read, or a close.
  @Test func framesOutOfPlace() async throws {
    let frames: [[UInt8]] = [
      BatchAttackTests.frame(.verbatim, [UInt8](repeating: 0, count: 16)),
      BatchAttackTests.frame(.ramEnd, [UInt8](repeating: 0, count: 16)),
      BatchAttackTests.frame(.tail, [UInt8](repeating: 1, count: 20)),
      BatchAttackTests.frame(.acknowledge, [UInt8](repeating: 255, count: 8)),
      BatchAttackTests.batch(1, [(0, true, 0, 1)]),
      BatchAttackTests.frame(.message, try PeerMessage.layout([], sectionID: 1).encoded()),
      BatchAttackTests.frame(.message, try PeerMessage.commit.encoded()),
      BatchAttackTests.frame(.message, try PeerMessage.auditEnd.encoded()),
      BatchAttackTests.frame(
        .message,
        try PeerMessage.begin(
          .init(laneCount: 4, inPlaceBlocks: ["no"], networkPatienceMs: 1000)
        ).encoded()),
      BatchAttackTests.frame(.message, [UInt8](repeating: 0x5B, count: 10_000)),
      BatchAttackTests.frame(.message, [UInt8](repeating: 0x5B, count: 8 << 20)),
      BatchAttackTests.frame(.message, []),
      BatchAttackTests.header(type: 4, length: .max),
      BatchAttackTests.header(type: 77, length: 1),
    ]
    try await attack { target in
      for (number, frame) in frames.enumerated() {
        let hello = AgentUnderAttack.frame(AgentUnderAttack.hello(seed: 1000 + UInt64(number)))
        let answers = try await target.answers(to: hello + frame, closing: false)
        for (type, payload) in answers.dropFirst() where type != .bye {
          guard type == .message else { throw RelayFailure.protocolViolation("\(type)") }
          guard case .failed(let reason) = try PeerMessage(decoding: payload) else {
            throw RelayFailure.protocolViolation("not an error: \(number)")
          }
          #expect(!reason.isEmpty)
        }
      }
      // The connection ends a moment before the session does.
      var left = await target.agent.status().count
      for _ in 0..<1200 where left > 0 {
        try await Task.sleep(nanoseconds: 50_000_000)
        left = await target.agent.status().count
      }
      #expect(left == 0, "\(left) migrations are left")
    }
  }

  @Test func dataLanesWithoutLeave() async throws {
    try await attack { target in
      let unknown = AgentUnderAttack.frame(AgentUnderAttack.hello(.data, lane: 1, seed: 3))
      let answers = try await target.answers(to: unknown, closing: false)
      #expect(answers.map { String(decoding: $0.1, as: UTF8.self) } == ["no such migration"])

      let control = try target.connect()
      try control.writeAll(AgentUnderAttack.frame(AgentUnderAttack.hello(seed: 4)).span.bytes)
      let welcome = try #require(try FrameSocket(control).receiveHeader())
      #expect(welcome.type == .welcome && welcome.payloadLength == 0)
      let wrong = AgentUnderAttack.frame(AgentUnderAttack.hello(.data, lane: 1, seed: 4, token: 5))
      let refusal = try await target.answers(to: wrong, closing: false)
      #expect(refusal.map { String(decoding: $0.1, as: UTF8.self) } == ["wrong token"])

      // The same id once more.
      let again = try await target.answers(
        to: AgentUnderAttack.frame(AgentUnderAttack.hello(seed: 4)), closing: false)
      #expect(again.count == 1 && again[0].1.isEmpty == false)
    }
  }

  @Test func laneThatIsNotExpected() throws {
    let (_, far) = try Sockets.tcpPair()
    let migration = DestinationMigration(
      id: MigrationID(high: 1, low: 2), socket: far, configuration: AgentConfiguration(),
      logger: Logger(label: "test"))
    let (_, lane) = try Sockets.tcpPair()
    for number in [0, 1, 65, 65535] as [UInt16] {
      let hello = Hello(role: .data, lane: number, migration: migration.id, token: migration.token)
      let refusal = migration.admit(lane, hello: hello)
      #expect(refusal == "lane \(number) is not expected")
    }
  }

  /// More than the agent greets at a time: a good peer is served at once, the silent ones leave.
  @Test func silentPeers() async throws {
    try await attack { target in
      let silent = try (0..<300).map { _ in try target.connect() }
      // The good peer gives up after less than the time that a silent one may take.
      try await target.expectGoodPeerIsServed()
      for socket in silent {
        let answers = try await Blocking.run { try AgentUnderAttack.answers(on: socket) }
        #expect(answers.isEmpty)
      }
    }
  }

  /// A byte now and then does not lengthen the time for a hello.
  @Test func trickledHello() async throws {
    try await attack { target in
      let startedMs = MonotonicClock.nowMs
      let socket = try target.connect()
      let hello = AgentUnderAttack.frame(AgentUnderAttack.hello(seed: 6))
      let writer = WorkerThread("test-trickle") {
        for byte in hello {
          guard (try? socket.writeAll([byte].span.bytes)) != nil else { return }
          MonotonicClock.sleep(us: 300_000)
        }
      }
      #expect(try AgentUnderAttack.answers(on: socket).isEmpty)
      let tookMs = MonotonicClock.nowMs - startedMs
      #expect(tookMs >= 4000, "\(tookMs) ms")
      socket.shutdown()
      writer.join()
    }
  }

  /// Messages that no session takes in time wait at the peer, not in the agent.
  @Test func floodOfMessages() async throws {
    let (near, far) = try Sockets.tcpPair()
    let taken = Guarded(0)
    let link = PeerLink(far)
    link.start(backlog: { taken.read { $0 } }) { _ in taken.update { $0 += 1 } }
    let message = try PeerMessage.abort(reason: String(repeating: "x", count: 1 << 20)).encoded()
    let sent = Guarded(0)
    let writer = WorkerThread("test-flood") {
      for number in 1...200 as ClosedRange<UInt64> {
        let piece = BatchAttackTests.frame(.message, message, number: number)
        guard (try? near.writeAll(piece.span.bytes)) != nil else { return }
        sent.update { $0 += 1 }
      }
    }
    while taken.read({ $0 }) < PeerLink.backlogMax { MonotonicClock.sleep(us: 10_000) }
    // And no more than that.
    MonotonicClock.sleep(us: 2_000_000)
    #expect(taken.read { $0 } == PeerLink.backlogMax)
    let accepted = sent.read { $0 }
    #expect(accepted < 60, "\(accepted) MiB were taken from the peer")
    // Waits for nobody: the time limit of the suite would show it.
    link.close()
    near.shutdown()
    writer.join()
  }
}
