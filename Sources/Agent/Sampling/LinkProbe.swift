import Base
import HostIO
import Strategy
import Wire

/// The asking side of a probe: round trips on a quiet connection, then a short burst on as many connections
/// as a migration would have.
struct LinkProbe: Sendable {
  /// All lanes together send at most so much filler, in bytes, for at most so long, in microseconds.
  static let bytesMax: UInt64 = 32 << 20
  static let burstUs: UInt64 = 500_000
  static let roundTrips: UInt64 = 9
  static let timeoutMs: UInt64 = 10_000
  /// A burst is at most so many times what went at the pace of its first frame.
  private static let pilotFactor: UInt64 = 4
  /// Marks in a burst have numbers from here on; those of round trips are below.
  private static let firstMark: UInt64 = 100

  let destination: String
  let security: PeerSecurity
  let share: LinkShare
  let laneCount: Int

  /// What the destination says, or its refusals, and the link to it. Blocks for a second or so.
  func run(
    _ request: PeerMessage.PrepareRequest
  ) throws -> (survey: PeerMessage.SurveyAnswer, link: LinkSample?) {
    let first = try open(lane: 0)
    defer { first.socket.finish() }
    let survey = try survey(first, request)
    guard survey.refusals.isEmpty else { return (survey, nil) }
    let trips = try (1...Self.roundTrips).map { number in
      let beganUs = MonotonicClock.nowUs
      _ = try Self.ask(first, number)
      return MonotonicClock.nowUs - beganUs
    }
    var lanes = [first]
    defer { for lane in lanes.dropFirst() { lane.socket.finish() } }
    let count = min(laneCount, survey.laneCountMax)
    while lanes.count < count { lanes.append(try open(lane: UInt16(lanes.count))) }

    let beganUs = MonotonicClock.nowUs
    let left = Guarded(Self.bytesMax - UInt64(count * ProbeLimits.fillerMax))
    let results = Guarded<[Result<[LinkEstimate.Arrival], any Error>]>([])
    let threads = lanes.map { lane in
      WorkerThread("gw-probe-tx") { [share] in
        let result = Result { try Self.burst(lane, share, left) }
        results.update { $0.append(result) }
      }
    }
    threads.forEach { $0.join() }
    let arrivals = try results.read { $0 }.map { try $0.get() }
    guard let estimate = LinkEstimate(arrivals, roundTripsUs: trips) else { return (survey, nil) }
    return (
      survey,
      LinkSample(
        bytesPerSecond: estimate.rate.bytesPerSecond, roundTripUs: estimate.roundTripUs,
        lanes: UInt64(count), bytes: arrivals.reduce(0) { $0 + ($1.last?.bytes ?? 0) },
        durationMs: (MonotonicClock.nowUs - beganUs) / 1000)
    )
  }

  func open(lane: UInt16) throws -> FrameSocket {
    var random = SystemRandomNumberGenerator()
    let id = MigrationID(using: &random)
    let socket = try PeerConnection.open(
      destination, Hello(role: .probe, lane: lane, migration: id, token: id), security: security,
      timeoutMs: SourceMigration.connectTimeoutMs)
    socket.setTimeout(ms: Self.timeoutMs)
    return FrameSocket(socket)
  }

  func survey(
    _ frames: FrameSocket, _ request: PeerMessage.PrepareRequest
  ) throws -> PeerMessage.SurveyAnswer {
    try unsafe frames.send(.message, try PeerMessage.survey(request).encoded())
    guard let header = try frames.receiveHeader(), header.type == .message,
      case .surveyed(let answer) = try PeerMessage(
        decoding: try frames.receivePayload(of: header))
    else { throw RelayFailure.protocolViolation("\(destination) doesn't answer the question") }
    return answer
  }

  /// Has the other side say where the probe stands.
  private static func ask(_ frames: FrameSocket, _ number: UInt64) throws -> ProbeMark {
    try send(frames, number)
    return try answer(frames, number)
  }

  private static func send(_ frames: FrameSocket, _ number: UInt64) throws {
    var payload: [UInt8] = []
    ProbeMark(number: number).encode(into: &payload)
    try unsafe frames.send(.probeMark, payload)
  }

  private static func answer(_ frames: FrameSocket, _ number: UInt64) throws -> ProbeMark {
    guard let header = try frames.receiveHeader(), header.type == .probeMark else {
      throw RelayFailure.protocolViolation("no answer to a probe")
    }
    let mark = try ProbeServer.mark(try frames.receivePayload(of: header))
    guard mark.number == number else {
      throw RelayFailure.protocolViolation("the answer to another question of a probe")
    }
    return mark
  }

  /// Sends filler for a while, with a mark behind each frame; what had arrived at each of them.
  ///
  /// - Parameter left: bytes that the lanes may still send together, so that all stop at one time.
  private static func burst(
    _ frames: FrameSocket, _ share: LinkShare, _ left: Guarded<UInt64>
  ) throws -> [LinkEstimate.Arrival] {
    let filler = filler()
    let size = UInt64(filler.byteCount)
    // One frame first: buffers must not swallow more than a slow link carries in a while.
    let pilotUs = MonotonicClock.nowUs
    try unsafe frames.send(.probe, [], body: filler.part(0, filler.byteCount))
    var arrivals = [try arrival(try ask(frames, firstMark))]
    let perPilot = max(burstUs / max(MonotonicClock.nowUs - pilotUs, 1), 1)
    let most = min(
      bytesMax, perPilot.multipliedReportingOverflow(by: size * pilotFactor).partialValue)

    let beganUs = MonotonicClock.nowUs
    var asked = firstMark
    while (asked - firstMark) * size < most, left.update({ take(size, from: &$0) }) {
      let delayUs = share.take(size)
      guard MonotonicClock.nowUs - beganUs + delayUs < burstUs || asked == firstMark else { break }
      if delayUs > 0 { MonotonicClock.sleep(us: min(delayUs, burstUs)) }
      try unsafe frames.send(.probe, [], body: filler.part(0, filler.byteCount))
      asked += 1
      try send(frames, asked)
    }
    for number in firstMark..<asked { arrivals.append(try arrival(try answer(frames, number + 1))) }
    return arrivals
  }

  private static func take(_ bytes: UInt64, from left: inout UInt64) -> Bool {
    guard left >= bytes else { return false }
    left -= bytes
    return true
  }

  /// - Throws: when more has arrived than may be sent: such rates are lies, and too large to be added.
  static func arrival(_ mark: ProbeMark) throws(RelayFailure) -> LinkEstimate.Arrival {
    guard mark.receivedBytes <= ProbeLimits.connectionBytesMax else {
      throw .protocolViolation("\(mark.receivedBytes) bytes have arrived of a probe")
    }
    return LinkEstimate.Arrival(bytes: mark.receivedBytes, atUs: mark.atUs)
  }

  /// Bytes that nothing on the way can compress.
  private static func filler() -> PageBuffer {
    let filler = PageBuffer(byteCount: ProbeLimits.fillerMax)
    var random = SplitMix64(seed: MonotonicClock.nowUs)
    // SAFETY: the buffer is page-aligned, a multiple of 8 bytes long, and nobody else's.
    unsafe filler.part(0, filler.byteCount).withMemoryRebound(to: UInt64.self) { words in
      for index in words.indices { unsafe words[index] = random.next() }
    }
    return filler
  }
}
