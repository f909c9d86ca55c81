import Base
import Glibc
import HostIO
import Wire

/// The asked side of a probe: receives filler, says when how much of it had come, and what this host would
/// take. Nothing is begun, and nothing is kept.
struct ProbeServer {
  /// Silence after which the connection is closed, in milliseconds.
  static let timeoutMs: UInt64 = 10_000
  /// Connections of probes at one time; each has a thread.
  static let connectionsMax = 128

  let configuration: AgentConfiguration

  /// Serves a connection until the peer closes it. Blocks.
  func serve(_ socket: any ByteConnection) throws {
    socket.setTimeout(ms: Self.timeoutMs)
    let frames = FrameSocket(socket)
    let filler = PageBuffer(byteCount: ProbeLimits.fillerMax)
    let names = PeerSecurity.peerNames(of: socket)
    var (bytes, answers): (UInt64, UInt64) = (0, 0)
    var welcome: PeerMessage.PrepareRequest?
    while let header = try frames.receiveHeader() {
      if header.type == .probe {
        bytes += UInt64(header.payloadLength)
        try Self.check(bytes <= ProbeLimits.connectionBytesMax, "\(bytes) bytes")
        try Self.receive(frames, header, filler)
        continue
      }
      answers += 1
      try Self.check(answers <= ProbeLimits.marksMax, "\(answers) questions")
      let payload = try frames.receivePayload(of: header)
      switch header.type {
      case .probeMark:
        var answer: [UInt8] = []
        ProbeMark(
          number: try Self.mark(payload).number, receivedBytes: bytes, atUs: MonotonicClock.nowUs
        ).encode(into: &answer)
        try unsafe frames.send(.probeMark, answer)
      case .message:
        let answer = try answer(try PeerMessage(decoding: payload), about: &welcome, names)
        try unsafe frames.send(.message, try answer.encoded())
      default: throw RelayFailure.protocolViolation("\(header.type) frame in a probe")
      }
    }
  }

  /// - Parameter welcome: the VM that this host would take, and that may be asked about further, once.
  private func answer(
    _ message: PeerMessage, about welcome: inout PeerMessage.PrepareRequest?, _ peerNames: [String]
  ) throws(RelayFailure) -> PeerMessage {
    switch message {
    case .survey(let request):
      let survey = survey(request, peerNames: peerNames)
      welcome = survey.refusals.isEmpty ? request : nil
      return .surveyed(survey)
    case .areStored(let question):
      guard let request = welcome else {
        throw .protocolViolation("a question about pages of no VM")
      }
      welcome = nil
      let survey = VaultSurvey(configuration)
      return .stored(
        survey.places(of: question, guest: request.vm, uuid: request.source.uuid))
    default: throw .protocolViolation("no question about a migration")
    }
  }

  static func mark(_ payload: [UInt8]) throws(RelayFailure) -> ProbeMark {
    do throws(DecodeError) {
      var cursor = unsafe ByteCursor(payload.span.bytes)
      return try ProbeMark(decoding: &cursor)
    } catch {
      throw .protocolViolation("\(error)")
    }
  }

  private static func check(_ holds: Bool, _ what: String) throws(RelayFailure) {
    guard holds else { throw .protocolViolation("\(what) in one connection of a probe") }
  }

  /// Takes filler as a lane takes pages: into a buffer, with its checksum.
  private static func receive(
    _ frames: FrameSocket, _ header: FrameHeader, _ buffer: PageBuffer
  ) throws(RelayFailure) {
    let isWhole: Bool
    do {
      isWhole = try unsafe frames.socket.readFully(into: buffer.part(0, header.payloadLength))
    } catch {
      throw .peer("\(error)")
    }
    guard isWhole else { throw .peer("ended inside a frame") }
    try FrameSocket.check(header, FrameChecksum.of(buffer.span(header.payloadLength)))
  }

  /// Whether a QEMU of this agent's may use userfaultfd(2).
  private static var canWaitForPages: Bool {
    guard let text = ProcFile.text("/proc/sys/vm/unprivileged_userfaultfd", limit: 16) else {
      return false
    }
    return geteuid() == 0 || text.hasPrefix("1")
  }

  /// What can be said without starting a QEMU: whether this host would take the VM, and has room for it.
  private func survey(
    _ request: PeerMessage.PrepareRequest, peerNames: [String]
  ) -> PeerMessage.SurveyAnswer {
    var refusals: [Refusal] = []
    var disks: [DiskAnswer]?
    var holdings: PeerMessage.Holdings?
    if let refusal = AllowRule.refusal(configuration.allow, vm: request.vm, peerNames: peerNames) {
      refusals.append(refusal)
    } else {
      do {
        let launch = try QEMULaunch.prepare(
          name: request.vm, sourceProgram: request.commandLine.first ?? "",
          sourceArguments: Array(request.commandLine.dropFirst()),
          machineType: request.source.machineType, configuration: configuration)
        if let claims = request.disks {
          let judgement = DiskReception.judge(claims, launch, configuration)
          refusals += judgement.refusals
          if judgement.refusals.isEmpty { disks = judgement.answers }
        }
        refusals += StayingDisk.refusals(request.staying ?? [], launch, configuration)
        if request.images != nil, refusals.isEmpty {
          holdings = PeerMessage.Holdings(request, launch, configuration)
        }
      } catch let refusal as LaunchRefusal {
        refusals.append(Refusal(.request, refusal.cause, remedy: refusal.remedy))
      } catch {
        refusals.append(
          Refusal(.request, "\(error)", remedy: "mend the file at the destination"))
      }
    }
    return PeerMessage.SurveyAnswer(
      host: HostFacts.gatherBlocking(), refusals: refusals,
      laneCountMax: configuration.laneCountMax,
      canWaitForPages: Self.canWaitForPages, disks: disks, holdings: holdings)
  }
}
