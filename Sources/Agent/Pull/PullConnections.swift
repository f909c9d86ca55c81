import Base
import HostIO
import Strategy
import Wire

/// The connections of a pull at the source, from their opening until one of them breaks.
///
/// Lane 0 carries requests one way and what the guest waits for the other way: a page that is waited for
/// stands behind no other on its connection. The other lanes carry what is asked for ahead, packed where that pays, and
/// what proves pages that the destination may have.
final class PullConnections: Sendable {
  enum End: Sendable {
    case done(PullDone)
    case broken(String)
    /// The guest's memory cannot be read.
    case memory(RelayFailure)
  }

  private enum Work {
    case send([Range<Int>])
    case identify(Range<Int>)
  }

  private struct State {
    var source: PullSource
    var prefetches: Bool
    var end: End?

    mutating func next(lane: Int) -> Work? {
      if lane == 0 {
        return source.nextUrgent(limit: PullConnections.aheadPages).map { .send([$0]) }
      }
      guard prefetches else { return nil }
      // It is small, and may save what stands behind it.
      if let pages = source.nextQuestion(limit: PullConnections.aheadPages) {
        return .identify(pages)
      }
      // Scattered pages together: by themselves there is less in them to pack.
      var runs: [Range<Int>] = []
      var room = PullConnections.aheadPages
      while room > 0, let pages = source.nextAhead(limit: room) {
        runs.append(pages)
        room -= pages.count
      }
      return runs.isEmpty ? nil : .send(runs)
    }
  }

  /// Pages in one frame ahead: little, so that what becomes urgent does not wait long on the link.
  static let aheadPages = 32
  static let heartbeatMs: UInt64 = 500

  let first: any ByteConnection
  private let sockets: [any ByteConnection]
  private let memory: StoppedMemory
  /// Nil: nothing is known of what the destination may have.
  private let identifier: PullIdentifier?
  /// Which pages are hot, once the guest has stopped.
  private let heat: @Sendable () -> [PullHeat]
  /// Nil: pages go as they are.
  private let packing: PullPacking?
  /// Nil: nothing limits what is given ahead.
  private let pacer: PullPacer?
  private let bytesWritten: Guarded<UInt64>
  private let tally = Guarded(PullTally())
  private let state: Guarded<State>

  /// - Parameters:
  ///   - sockets: lane 0 first; at least two.
  ///   - heat: asked once, when the destination asks for the first pages.
  init(
    _ sockets: [any ByteConnection], _ memory: StoppedMemory, _ bytesWritten: Guarded<UInt64>,
    identifier: PullIdentifier?, packing: PullPacking?, pacer: PullPacer?,
    heat: @escaping @Sendable () -> [PullHeat], prefetches: Bool
  ) {
    (self.heat, self.packing, self.pacer) = (heat, packing, pacer)
    (self.sockets, first, self.memory) = (sockets, sockets[0], memory)
    self.identifier = identifier
    self.bytesWritten = bytesWritten
    state = Guarded(
      State(source: PullSource(numbering: memory.numbering), prefetches: prefetches))
    first.setTimeout(ms: PeerLink.silenceLimitMs)
  }

  var counters: PullSource.Counters { state.read { $0.source.counters } }
  /// Pages that went, by the way they did.
  var given: PullTally { tally.read { $0 } }

  /// Serves until the end; blocks.
  func run() -> End {
    let reader = WorkerThread("gw-pull-rx", isUrgent: true) { [self] in readRequests() }
    let senders = sockets.indices.map { lane in
      // What is asked for ahead can wait.
      WorkerThread("gw-pull-tx-\(lane)", isUrgent: lane == 0) { [self] in send(lane: lane) }
    }
    let end = TLSConnection.hurried(for: sockets) { state.wait { $0.end } }
    for socket in sockets { socket.shutdown() }
    reader.join()
    for sender in senders { sender.join() }
    return end ?? .broken("stopped")
  }

  func setPrefetching(_ prefetches: Bool) { state.update { $0.prefetches = prefetches } }

  func end(_ reason: String) { finish(.broken(reason)) }

  private func finish(_ end: End) {
    state.update { $0.end = $0.end ?? end }
    for socket in sockets { socket.shutdown() }
  }

  private func readRequests() {
    let frames = FrameSocket(first)
    do {
      while let header = try frames.receiveHeader() {
        let payload = try frames.receivePayload(of: header)
        var cursor = unsafe ByteCursor(payload.span.bytes)
        switch header.type {
        case .heartbeat: break
        case .pullRequest: try take(try PullRequests(decoding: &cursor))
        case .pullDone: return finish(.done(try PullDone(decoding: &cursor)))
        default: throw RelayFailure.protocolViolation("\(header.type) frame in a pull")
        }
      }
      finish(.broken("closed by \(first.peer)"))
    } catch {
      finish(.broken("\(error)"))
    }
  }

  private func take(_ requests: PullRequests) throws {
    try state.update { state in
      for request in requests.requests {
        let pages = try state.source.numbering.numbers(
          block: Int(request.block), firstPage: request.firstPage, count: UInt64(request.count))
        try state.source.request(PullRun(pages, PullRun.Kind(request.kind)))
      }
    }
  }

  private func send(lane: Int) {
    let sender = PullSender(
      FrameSocket(sockets[lane], counting: bytesWritten), memory,
      // What the guest waits for does not wait for a processor.
      packing: lane == 0 ? nil : packing)
    // Before the first pages that are asked for ahead: they are asked for in another order then.
    var saysHeat = lane == 1
    do throws(RelayFailure) {
      while true {
        let next = state.wait(timeoutMs: Self.heartbeatMs) { state -> Work?? in
          if state.end != nil { return .some(nil) }
          return state.next(lane: lane).map { .some($0) }
        }
        if saysHeat, case .some(.some) = next {
          saysHeat = false
          try sender.say(heat())
        }
        switch next {
        case nil: if lane == 0 { try sender.heartbeat() }
        case .some(.none): return
        case .some(.some(.identify(let pages))):
          let bytes = try sender.identify(pages, identifier) { known in
            state.update { $0.source.noteIdentified(known, of: pages.count) }
          }
          pace(lane, bytes)
        case .some(.some(.send(let runs))):
          let given = try sender.send(runs)
          tally.update { $0.add(given) }
          pace(lane, given.wireBytes)
        }
      }
    } catch {
      if case .memory = error { return finish(.memory(error)) }
      finish(.broken("\(error)"))
    }
  }

  /// Waits where so many bytes were more than the limits allow by now; not for what the guest waits for.
  private func pace(_ lane: Int, _ bytes: UInt64) {
    guard let delayUs = pacer?.take(bytes), lane > 0, delayUs >= 1000 else { return }
    _ = state.wait(timeoutMs: delayUs / 1000) { $0.end != nil ? true : nil }
  }
}
