import Base
import HostIO
import Strategy
import Wire

/// The connections of a pull at the source, from their opening until one of them breaks.
///
/// Lane 0 carries requests one way and what the guest waits for the other way: a page that is waited for
/// stands behind no other on its connection. The other lanes carry what is asked for ahead.
final class PullConnections: Sendable {
  enum End: Sendable {
    case done(PullDone)
    case broken(String)
    /// The guest's memory cannot be read.
    case memory(RelayFailure)
  }

  private struct State {
    var source: PullSource
    var prefetches: Bool
    var end: End?
  }

  /// Pages in one frame ahead: little, so that what becomes urgent does not wait long on the link.
  static let aheadPages = 32
  static let heartbeatMs: UInt64 = 500

  let first: any ByteConnection
  private let sockets: [any ByteConnection]
  private let memory: StoppedMemory
  private let bytesWritten: Guarded<UInt64>
  private let state: Guarded<State>

  /// - Parameter sockets: lane 0 first; at least two.
  init(
    _ sockets: [any ByteConnection], _ memory: StoppedMemory, _ bytesWritten: Guarded<UInt64>,
    prefetches: Bool
  ) {
    (self.sockets, first, self.memory) = (sockets, sockets[0], memory)
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
        try state.source.request(PullRun(pages, isUrgent: request.isUrgent))
      }
    }
  }

  private func send(lane: Int) {
    let frames = FrameSocket(sockets[lane], counting: bytesWritten)
    let buffer = PageBuffer(byteCount: Self.aheadPages * Page.size)
    var sequence: UInt64 = 0
    do throws(RelayFailure) {
      while true {
        let next = state.wait(timeoutMs: Self.heartbeatMs) { state -> Range<Int>?? in
          if state.end != nil { return .some(nil) }
          let pages =
            lane == 0
            ? state.source.nextUrgent(limit: Self.aheadPages)
            : state.prefetches ? state.source.nextAhead(limit: Self.aheadPages) : nil
          return pages.map { .some($0) }
        }
        guard let next else {
          if lane == 0 { try heartbeat(frames) }
          continue
        }
        guard let pages = next else { return }
        sequence += 1
        try send(pages, sequence, frames, buffer)
      }
    } catch {
      if case .memory = error { return finish(.memory(error)) }
      finish(.broken("\(error)"))
    }
  }

  private func heartbeat(_ frames: FrameSocket) throws(RelayFailure) {
    var payload: [UInt8] = []
    Heartbeat(receivedThrough: 0).encode(into: &payload)
    try unsafe frames.send(.heartbeat, payload)
  }

  /// One frame: the pages' bytes as they are, zero pages by name only.
  private func send(
    _ pages: Range<Int>, _ sequence: UInt64, _ frames: FrameSocket, _ buffer: PageBuffer
  ) throws(RelayFailure) {
    let block = memory.numbering.block(of: pages.lowerBound)
    let firstPage = UInt64(pages.lowerBound - memory.numbering.bases[block])
    do {
      try unsafe memory.read(
        block: block, firstPage: firstPage, into: buffer.part(0, pages.count * Page.size))
    } catch { throw .memory("\(error)") }
    var picked = PickedPages()
    for index in pages.indices.map({ $0 - pages.lowerBound }) {
      let isZero = unsafe !buffer.part(index * Page.size, Page.size).contains { $0 != 0 }
      if !isZero, picked.rawPages != index {
        // SAFETY: `part` checks its bounds; a page moves to a place before its own.
        unsafe buffer.part(picked.rawPages * Page.size, Page.size).copyMemory(
          from: UnsafeRawBufferPointer(buffer.part(index * Page.size, Page.size)))
      }
      // The stream's blocks are below 2^16.
      picked.add(
        block: UInt16(truncatingIfNeeded: block), page: firstPage + UInt64(index), isZero: isZero)
    }
    let header = BatchHeader(
      place: SequencedHeader(sequence: sequence, after: 0), runs: picked.runs)
    var head: [UInt8] = []
    header.encode(into: &head)
    try unsafe frames.send(.pages, head, body: buffer.part(0, picked.rawPages * Page.size))
  }
}
