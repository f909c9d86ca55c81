import Base
import Compaction
import HostIO
import QEMUStream
import Strategy
import Wire

/// The destination's half of a pull: hands the guest over to QEMU before its memory is there, reads
/// which pages it waits for, and gives it each missing page exactly once.
///
/// From `start` on nobody else writes to QEMU's socket. Before it QEMU has had ADVISE, RAM's START and
/// what was sent (`PostcopyWriter`), and nothing in place: memory that QEMU watches must not be
/// written behind its back. Pages are decided on and written under one lock, so the end of the
/// stream comes behind the last of them.
final class PullFeeder: Sendable {
  enum Event: Sendable {
    /// QEMU has the device state; it may be told to run the guest as soon as it says `paused`.
    case handedOver
    /// Every page is with QEMU: the source may let go of the guest's memory.
    case complete(PullDone)
    /// QEMU has placed every page and closed the migration; anything but 0 is a failure.
    case shut(UInt32)
    case failed(RelayFailure)
  }

  struct Stream {
    var writer: PostcopyWriter
    var hasEnded = false
    /// `complete` was said.
    var isTold = false
  }

  /// Pages that are looked at for one write of DISCARD commands.
  private static let discardPages = 1 << 20
  /// Bytes of the return path that are read at once.
  private static let readBytes = 16 << 10

  let qemu: StreamSocket
  let blocks: [RAMBlock]
  /// Of RAM's sections in QEMU's stream.
  let sectionID: UInt32
  private let stream: Guarded<Stream>
  let directory: Guarded<PullDirectory>
  /// One thread asks at a time: requests leave in the order in which the directory names them.
  private let asking = Guarded(())
  /// Only for a migration that is audited.
  let audit: Guarded<PullAudit>?
  /// What pages can be made of here; nil: all are pulled.
  let local: (any PageMaker)?
  /// Threads that make pages, or see to it that nothing waits for them.
  let makers = Guarded(0)
  let isStopping = Guarded(false)
  private let ask: @Sendable ([PullRequest]) throws(RelayFailure) -> Void
  let onEvent: @Sendable (Event) -> Void
  private let shut = Guarded<UInt32?>(nil)
  private let reader = Guarded<WorkerThread?>(nil)

  /// - Parameters:
  ///   - invalid: pages that are missing or stale, numbered as `PageNumbering` does.
  ///   - audits: the bytes of what arrives are held against the source's digests.
  ///   - local: what pages can be made of here, of a source that says what proves them.
  ///   - ask: sends a `pullRequest` frame.
  ///   - onEvent: called on the threads of the feeder and of lanes.
  init(
    qemu: StreamSocket, blocks: [RAMBlock], sectionID: UInt32, invalid: PageBitmap,
    audits: Bool = false, local: (any PageMaker)? = nil,
    ask: @escaping @Sendable ([PullRequest]) throws(RelayFailure) -> Void,
    onEvent: @escaping @Sendable (Event) -> Void
  ) throws(PostcopyWriter.Refusal) {
    (self.qemu, self.blocks, self.sectionID) = (qemu, blocks, sectionID)
    (self.local, self.ask, self.onEvent) = (local, ask, onEvent)
    audit = audits ? Guarded(PullAudit()) : nil
    let numbering = PageNumbering(blockPages: blocks.map(\.pageCount))
    stream = Guarded(Stream(writer: try PostcopyWriter(sectionID: sectionID, blocks: blocks)))
    directory = Guarded(PullDirectory(numbering: numbering, invalid: invalid))
  }

  /// What QEMU ended the migration with, 0 when it has every page; nil until it has.
  var shutCode: UInt32? { shut.read { $0 } }

  var counters: PullDirectory.Counters { directory.read { $0.counters } }
  var missingCount: Int { directory.read { $0.missingCount } }

  /// Discards what is invalid, hands the device state over, and begins to listen and to ask. Blocks
  /// until QEMU has read it all.
  func start(_ state: DeviceState, invalid: PageBitmap) throws(RelayFailure) {
    let worker = WorkerThread("gw-qemu-rx", isUrgent: true) { [self] in
      readReturnPath(ReturnPathSoFar())
    }
    reader.update { $0 = worker }
    let numbering = directory.read { $0.numbering }
    try writing { (stream) throws(RelayFailure) in
      var bytes: [UInt8] = []
      for block in blocks.indices {
        let base = numbering.bases[block]
        let end = base + numbering.counts[block]
        for first in stride(from: base, to: end, by: Self.discardPages) {
          let part = first..<min(first + Self.discardPages, end)
          stream.writer.discard(block: block, invalid, base: base, range: part, into: &bytes)
          try self.write(&bytes)
        }
      }
      do { try stream.writer.start(state, into: &bytes) } catch {
        throw .protocolViolation("\(error)")
      }
      try self.write(&bytes)
    }
    onEvent(.handedOver)
    beginLocal()
    try endIfDone()
    try askForMore()
  }

  /// Goes on with a QEMU that has the device state and runs the guest, and says again what it waits for.
  ///
  func resume(_ path: ReturnPathSoFar) throws(RelayFailure) {
    let worker = WorkerThread("gw-qemu-rx", isUrgent: true) { [self] in readReturnPath(path) }
    reader.update { $0 = worker }
    try endIfDone()
    try askForMore()
  }

  /// The connection to the source broke and is there again: what is not here is asked for anew.
  func connectionRenewed() throws(RelayFailure) {
    directory.update { $0.forgetRequests() }
    try askForMore()
  }

  /// Ends QEMU's socket, and the threads.
  func stop() {
    isStopping.update { $0 = true }
    qemu.shutdown()
    reader.update { $0 }?.join()
    stopLocal()
  }

  func endIfDone() throws(RelayFailure) {
    var hasEnded = false
    try writing { (stream) throws(RelayFailure) in
      guard !stream.hasEnded, directory.read({ $0.isDone }) else { return }
      (stream.hasEnded, hasEnded) = (true, true)
      var bytes: [UInt8] = []
      stream.writer.end(into: &bytes)
      try self.write(&bytes)
    }
    if hasEnded { tellIfComplete() }
  }

  /// Says, once, that every page is with QEMU, with what an audit found; an audit may be the last to end.
  func tellIfComplete() {
    let audited = audit?.read { $0 }
    let isFirst = stream.update { stream -> Bool in
      guard stream.hasEnded, !stream.isTold, audited?.isComplete ?? true else { return false }
      stream.isTold = true
      return true
    }
    guard isFirst else { return }
    let counters = counters
    var done = PullDone(
      placedPages: UInt64(counters.placed), faultPages: UInt64(counters.placedForFaults),
      comparedPages: audited?.comparedCount ?? 0, differingPages: audited?.differingCount ?? 0)
    (done.snapshotPages, done.diskPages) = (UInt64(counters.ofSnapshot), UInt64(counters.ofDisk))
    done.vaultPages = UInt64(counters.ofVault)
    done.localFaultPages = UInt64(counters.madeForFaults)
    onEvent(.complete(done))
  }

  /// Sends what the directory wants to ask for at this moment.
  func askForMore() throws(RelayFailure) {
    try asking.update { (_) throws(RelayFailure) in
      while true {
        let nowUs = MonotonicClock.nowUs
        let requests = directory.update { directory -> [PullRequest] in
          var requests: [PullRequest] = []
          while requests.count < PullLimits.requestsMax,
            let run = directory.nextRequest(nowUs: nowUs)
          {
            requests.append(PullRequest(run, directory.numbering))
          }
          return requests
        }
        guard !requests.isEmpty else { return }
        try ask(requests)
      }
    }
  }

  private func readReturnPath(_ path: ReturnPathSoFar) {
    var path = path
    var requests = PageRequestReader(blocks: blocks)
    let buffer = PageBuffer(byteCount: Self.readBytes)
    var isShut = false
    do {
      while true {
        for message in path.messages {
          switch message {
          case .requestPages(let start, let length, let block):
            let request = try requests.request(start: start, length: length, block: block)
            try fault(request)
          case .shut(let value):
            isShut = true
            shut.update { $0 = value }
            onEvent(.shut(value))
          case .pong, .receivedBitmap, .resumeAck, .switchoverAck: break
          }
        }
        try askForMore()
        let count = try unsafe qemu.read(into: buffer.part(0, buffer.byteCount))
        guard count > 0 else {
          if !isShut { onEvent(.failed(.qemu("closed before it had every page"))) }
          return
        }
        path.messages = try path.reader.receive(buffer.span(count))
      }
    } catch let failure as RelayFailure {
      onEvent(.failed(failure))
    } catch {
      onEvent(.failed(.qemu("\(error)")))
    }
  }

  private func fault(_ request: PageRequest) throws {
    try directory.update { directory in
      let pages = try directory.numbering.numbers(
        block: request.block, firstPage: request.firstPage, count: request.count)
      let nowUs = MonotonicClock.nowUs
      for page in pages { try directory.fault(page, nowUs: nowUs) }
    }
  }

  func writing(
    _ body: (inout Stream) throws(RelayFailure) -> Void
  ) throws(RelayFailure) { try stream.update(body) }

  private func write(_ bytes: inout [UInt8]) throws(RelayFailure) {
    do { try unsafe qemu.writeAll(bytes.span.bytes) } catch { throw .qemu("\(error)") }
    bytes.removeAll(keepingCapacity: true)
  }
}
