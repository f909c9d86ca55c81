import Base
import Foundation
import HostIO
import QMP
import Strategy
import Testing
import Wire

@testable import Agent

/// One agent asks another for its link and its opinion.
@Suite(.serialized, .timeLimit(.minutes(2))) struct ProbeTests {
  static let question: PeerMessage.PrepareRequest = {
    guard case .prepare(let request) = PeerMessageTests.prepare(vm: "guest") else { fatalError() }
    return request
  }()

  private func probe(_ target: AgentUnderAttack, lanes: Int = 2) -> LinkProbe {
    probe(port: target.port, AgentUnderAttack.insecure, lanes: lanes)
  }

  private func probe(
    port: UInt16, _ configuration: AgentConfiguration, lanes: Int = 2
  ) -> LinkProbe {
    LinkProbe(
      destination: "127.0.0.1:\(port)", security: PeerSecurity(configuration),
      share: OutgoingLink(rate: nil).join(), laneCount: lanes)
  }

  /// Definitions say which VMs a host takes.
  private func define(_ folder: String) throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try SmallFile.write(
      Array("name = \"guest\"\nprogram = \"/bin/true\"\narguments = []\n".utf8),
      to: folder + "/guest.toml", mode: 0o600)
  }

  @Test func theLinkIsMeasuredAndNothingBegins() async throws {
    let target = try AgentUnderAttack { configuration in
      configuration.allowedPrograms = ["/bin/true"]
      configuration.laneCountMax = 3
    }
    try define(target.agent.configuration.definitionsDirectory)
    let asked = probe(target, lanes: 8)
    let (survey, link) = try await Blocking.run { try asked.run(Self.question) }
    #expect(survey.refusals.isEmpty)
    #expect((survey.host.memoryAvailable ?? 0) > 0)
    let hasUserfaultfd = FileManager.default.fileExists(
      atPath: "/proc/sys/vm/unprivileged_userfaultfd")
    #expect(!survey.canWaitForPages || hasUserfaultfd)
    let sample = try #require(link)
    #expect(sample.lanes == 3, "no more than the destination allows")
    #expect(sample.bytesPerSecond > 0 && sample.roundTripUs > 0)
    #expect((1...LinkProbe.bytesMax).contains(sample.bytes))
    #expect(await target.agent.counts.incoming == 0)
    await target.stop()
  }

  @Test func aRefusalComesBeforeAnyBurst() async throws {
    let target = try AgentUnderAttack()
    let asked = probe(target)
    let (survey, link) = try await Blocking.run { try asked.run(Self.question) }
    #expect(link == nil)
    #expect(survey.refusals.count == 1)
    #expect("\(survey.refusals)".contains("no definition"))
    await target.stop()
  }

  /// An agent that doesn't know probes says so in its welcome, and nothing else is tried.
  @Test func anOlderAgentRefusesPolitely() async throws {
    let listener = try TCPSocket.listen(host: "127.0.0.1", port: 0)
    let port = try #require(TCPSocket.localPort(of: listener))
    let older = Task {
      try await Blocking.run {
        guard let accepted = try listener.accept(timeoutMs: 60_000) else { return }
        let socket = TCPSocket.tuned(accepted)
        _ = try PeerConnection.greet(socket, timeoutMs: 60_000)
        PeerConnection.welcome(socket, refusal: "bad value 5 in hello role")
      }
    }
    let asked = probe(port: port, AgentUnderAttack.insecure)
    await #expect {
      _ = try await Blocking.run { try asked.run(Self.question) }
    } throws: { error in
      guard case .refused(let refusals) = error as? Ending else { return false }
      return "\(refusals)".contains("hello role")
    }
    try await older.value
  }

  /// A destination that says it has received what nobody sent: the probe fails, and no sum of such numbers traps.
  @Test func whatWasNotSentHasNotArrived() throws {
    let most = ProbeLimits.connectionBytesMax
    #expect(try LinkProbe.arrival(ProbeMark(number: 1, receivedBytes: most)).bytes == most)
    for bytes in [most + 1, .max] {
      #expect(throws: RelayFailure.self) {
        try LinkProbe.arrival(ProbeMark(number: 1, receivedBytes: bytes, atUs: 7))
      }
    }
  }

  /// Whatever a peer sends on a probe: it ends, and the next one is served.
  @Test func hostileProbesEnd() async throws {
    let target = try AgentUnderAttack()
    let hello = AgentUnderAttack.frame(AgentUnderAttack.hello(.probe, seed: 1))
    let filler = BatchAttackTests.frame(
      .probe, [UInt8](repeating: 1, count: ProbeLimits.fillerMax))
    var mark: [UInt8] = []
    ProbeMark(number: 1).encode(into: &mark)
    let question = BatchAttackTests.frame(.probeMark, mark)
    let settle = BatchAttackTests.frame(.message, try PeerMessage.auditEnd.encoded())
    let stored = BatchAttackTests.frame(
      .message,
      try PeerMessage.areStored(.init(seeds: [], blocks: [], pages: [])).encoded())
    let survey = BatchAttackTests.frame(.message, try PeerMessage.survey(Self.question).encoded())
    let attacks: [(bytes: [UInt8], answers: Int)] = [
      (hello, 1),
      (hello + question, 2),
      (hello + question.dropLast(), 1),
      (hello + BatchAttackTests.frame(.probeMark, []), 1),
      (hello + settle, 1),
      // Of a VM that nobody asked about, and of one that this host doesn't take.
      (hello + stored, 1), (hello + survey + stored, 2),
      (hello + BatchAttackTests.frame(.pages, [1, 2, 3]), 1),
      (hello + [UInt8](repeating: 0xAB, count: 4000), 1),
      (hello + filler + question + filler.dropLast(), 2),
    ]
    for (number, attack) in attacks.enumerated() {
      let answers = try await target.answers(to: attack.bytes)
      #expect(answers.count == attack.answers, "attack \(number)")
    }
    // One mark more than allowed. Only once the others' answers are read: the reset that ends a connection with unread
    // bytes takes answers along that are still on their way.
    let beyond = try await Blocking.run { () throws -> Int in
      let socket = try target.connect()
      let questions = (0..<ProbeLimits.marksMax).flatMap { _ in question }
      try socket.writeAll((hello + questions).span.bytes)
      let frames = FrameSocket(socket)
      var answers = 0
      while answers <= Int(ProbeLimits.marksMax) {
        let header = try #require(try frames.receiveHeader())
        _ = try frames.receivePayload(of: header)
        if header.type != .heartbeat { answers += 1 }
      }
      try socket.writeAll(question.span.bytes)
      return try AgentUnderAttack.answers(on: socket).count
    }
    #expect(beyond == 0)
    // More filler than a connection may send: closed while it is sent.
    let most = Int(ProbeLimits.connectionBytesMax) / ProbeLimits.fillerMax
    let wasClosed = try await Blocking.run {
      let socket = try target.connect()
      try socket.writeAll(hello.span.bytes)
      do {
        // The socket's buffers take some frames more before the close is felt.
        for _ in 0..<most * 2 { try socket.writeAll(filler.span.bytes) }
        return false
      } catch {
        return true
      }
    }
    #expect(wasClosed)
    try await target.expectGoodPeerIsServed()
    await target.stop()
  }
}

extension AgentUnderAttack {
  /// How a peer of an insecure agent is configured.
  static var insecure: AgentConfiguration {
    var configuration = AgentConfiguration()
    configuration.tls.insecure = true
    return configuration
  }
}
