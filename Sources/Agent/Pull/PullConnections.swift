import Base
import HostIO
import Strategy
import Wire

/// The connections of a pull at the source, from their opening until one of them breaks.
///
/// Lane 0 carries requests one way and what the guest waits for the other way: a page that is waited for
/// stands behind no other on its connection. The other lanes carry what is asked for ahead, and what proves pages that
/// the destination may have.
final class PullConnections: Sendable {
  enum End: Sendable {
    case done(PullDone)
    case broken(String)
    /// The guest's memory cannot be read.
    case memory(RelayFailure)
  }

  private enum Work {
    case send(Range<Int>)
    case identify(Range<Int>)
  }

  private struct State {
    var source: PullSource
    var prefetches: Bool
    var end: End?

    mutating func next(lane: Int) -> Work? {
      if lane == 0 { return source.nextUrgent(limit: PullConnections.aheadPages).map { .send($0) } }
      guard prefetches else { return nil }
      // It is small, and may save what stands behind it.
      if let pages = source.nextQuestion(limit: PullConnections.aheadPages) {
        return .identify(pages)
      }
      return source.nextAhead(limit: PullConnections.aheadPages).map { .send($0) }
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
  /// Nil: nothing limits what is given ahead.
  private let pacer: PullPacer?
  private let bytesWritten: Guarded<UInt64>
  private let state: Guarded<State>

  /// - Parameters:
  ///   - sockets: lane 0 first; at least two.
  ///   - heat: asked once, when the destination asks for the first pages.
  init(
    _ sockets: [any ByteConnection], _ memory: StoppedMemory, _ bytesWritten: Guarded<UInt64>,
    identifier: PullIdentifier?, pacer: PullPacer? = nil,
    heat: @escaping @Sendable () -> [PullHeat], prefetches: Bool
  ) {
    (self.heat, self.pacer) = (heat, pacer)
    (self.sockets, first, self.memory) = (sockets, sockets[0], memory)
    self.identifier = identifier
    self.bytesWritten = bytesWritten
    state = Guarded(
      State(source: PullSource(numbering: memory.numbering), prefetches: prefetches))
    first.setTimeout(ms: PeerLink.silenceLimitMs)
  }

  var counters: PullSource.Counters { state.read { $0.source.counters } }

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
    let frames = FrameSocket(sockets[lane], counting: bytesWritten)
    let buffer = PageBuffer(byteCount: Self.aheadPages * Page.size)
    var sequence: UInt64 = 0
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
          try sayHeat(frames)
        }
        switch next {
        case nil: if lane == 0 { try heartbeat(frames) }
        case .some(.none): return
        case .some(.some(.identify(let pages))): try identify(pages, frames, buffer)
        case .some(.some(.send(let pages))):
          sequence += 1
          pace(lane, try send(pages, sequence, frames, buffer))
        }
      }
    } catch {
      if case .memory = error { return finish(.memory(error)) }
      finish(.broken("\(error)"))
    }
  }

  /// Waits where so many bytes were more than the limits allow by now; not for what the guest waits for.
  private func pace(_ lane: Int, _ bytes: Int) {
    guard let delayUs = pacer?.take(UInt64(bytes)), lane > 0, delayUs >= 1000 else { return }
    _ = state.wait(timeoutMs: delayUs / 1000) { $0.end != nil ? true : nil }
  }

  private func heartbeat(_ frames: FrameSocket) throws(RelayFailure) {
    var payload: [UInt8] = []
    Heartbeat(receivedThrough: 0).encode(into: &payload)
    try unsafe frames.send(.heartbeat, payload)
  }

  private func sayHeat(_ frames: FrameSocket) throws(RelayFailure) {
    for frame in heat() {
      var payload: [UInt8] = []
      frame.encode(into: &payload)
      try unsafe frames.send(.pullHeat, payload)
    }
  }

  /// The first of these pages as frames name it.
  private func place(of pages: Range<Int>) -> (block: UInt16, firstPage: UInt64) {
    let block = memory.numbering.block(of: pages.lowerBound)
    // The stream's blocks are below 2^16.
    return (
      UInt16(truncatingIfNeeded: block),
      UInt64(pages.lowerBound - memory.numbering.bases[block])
    )
  }

  /// Reads pages that follow each other into the start of the buffer.
  private func read(_ pages: Range<Int>, _ buffer: PageBuffer) throws(RelayFailure) {
    let (block, firstPage) = place(of: pages)
    do {
      try unsafe memory.read(
        block: Int(block), firstPage: firstPage, into: buffer.part(0, pages.count * Page.size))
    } catch { throw .memory("\(error)") }
  }

  /// What proves pages that the destination may have.
  private func identify(
    _ pages: Range<Int>, _ frames: FrameSocket, _ buffer: PageBuffer
  ) throws(RelayFailure) {
    let (block, firstPage) = place(of: pages)
    var identities = [PullIdentity](repeating: .unknown, count: pages.count)
    if let identifier {
      try read(pages, buffer)
      identities = identifier.identities(
        block: block, firstPage: firstPage, of: buffer.span(pages.count * Page.size))
    }
    let known = identities.count { $0 != .unknown }
    state.update { $0.source.noteIdentified(known, of: pages.count) }
    var payload: [UInt8] = []
    PullIdentities(block: block, firstPage: firstPage, identities: identities)
      .encode(into: &payload)
    try unsafe frames.send(.pullIdentities, payload)
  }

  /// One frame: the pages' bytes as they are, zero pages by name only. Gives the bytes that went.
  private func send(
    _ pages: Range<Int>, _ sequence: UInt64, _ frames: FrameSocket, _ buffer: PageBuffer
  ) throws(RelayFailure) -> Int {
    try read(pages, buffer)
    let (block, firstPage) = place(of: pages)
    var picked = PickedPages()
    for index in pages.indices.map({ $0 - pages.lowerBound }) {
      let isZero = unsafe !buffer.part(index * Page.size, Page.size).contains { $0 != 0 }
      if !isZero, picked.rawPages != index {
        // SAFETY: `part` checks its bounds; a page moves to a place before its own.
        unsafe buffer.part(picked.rawPages * Page.size, Page.size).copyMemory(
          from: UnsafeRawBufferPointer(buffer.part(index * Page.size, Page.size)))
      }
      picked.add(block: block, page: firstPage + UInt64(index), isZero: isZero)
    }
    let header = BatchHeader(
      place: SequencedHeader(sequence: sequence, after: 0), runs: picked.runs)
    var head: [UInt8] = []
    header.encode(into: &head)
    try unsafe frames.send(.pages, head, body: buffer.part(0, picked.rawPages * Page.size))
    return FrameHeader.byteCount + head.count + picked.rawPages * Page.size
  }
}
