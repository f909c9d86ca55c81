import Base
import HostIO
import QEMUStream
import Wire

/// The one writer of the destination QEMU's stream: regenerates RAM sections from batches and puts
/// QEMU's own bytes between them.
///
/// Its queue needs no bound of its own: what it holds is counted by `ApplyPipe`.
final class StreamFeeder: Sendable {
  private struct Queue {
    var items: [(sequence: UInt64, frame: IncomingFrame)] = []
    var stopped = false
  }

  private let qemu: StreamSocket
  private let queue = Guarded(Queue())
  private let layout: @Sendable () -> (blocks: [RAMBlock], sectionID: UInt32)?
  /// Blocks that are written in place, by number: their pages are left out here.
  private let isInPlace: @Sendable (Int) -> Bool
  /// Lets a pull begin: from then on it is the one writer.
  private let handOver: @Sendable () throws(RelayFailure) -> Void
  private let unpacking: FeederUnpacking
  /// What QEMU may leave unread, as it was said to the socket last; at first what the system has.
  private let unreadBytes = Guarded(StreamFeeder.unreadBytesMax)
  /// The thread is over, or was not begun.
  private let hasEnded = Guarded(true)

  /// A thread that makes pages of a disk ends within so long when it can, in milliseconds.
  static let endMs: UInt64 = 1000
  /// Bytes that QEMU may leave unread: where they are pages, which it takes as fast as they come, and where they are
  /// headers of zero pages. Of these the usual 200 KiB are 90 MiB of memory for QEMU to look at; and what was written
  /// counts as applied.
  static let unreadBytesMax = 208 << 10
  static let unreadZerosMax = 32 << 10

  init(
    qemu: StreamSocket, unpacking: FeederUnpacking,
    layout: @escaping @Sendable () -> ([RAMBlock], UInt32)?,
    isInPlace: @escaping @Sendable (Int) -> Bool,
    handOver: @escaping @Sendable () throws(RelayFailure) -> Void
  ) {
    (self.qemu, self.isInPlace, self.handOver) = (qemu, isInPlace, handOver)
    self.unpacking = unpacking
    self.layout = { layout().map { ($0.0, $0.1) } }
  }

  /// Starts the thread. `onApplied` follows each frame, in the order of writing.
  func start(
    onApplied: @escaping @Sendable (UInt64, IncomingFrame) throws(RelayFailure) -> Void,
    onFailure: @escaping @Sendable (RelayFailure) -> Void
  ) {
    hasEnded.update { $0 = false }
    _ = WorkerThread("gw-qemu-tx") { [self] in
      defer { hasEnded.update { $0 = true } }
      var writer: RAMWriter?
      do throws(RelayFailure) {
        while true {
          let item = queue.wait { queue -> (UInt64, IncomingFrame)?? in
            if queue.stopped { return .some(nil) }
            return queue.items.isEmpty ? nil : .some(queue.items.removeFirst())
          }
          guard let (sequence, frame) = item ?? nil else { return }
          try write(sequence, frame, &writer)
          try checkRuns()
          try onApplied(sequence, frame)
        }
      } catch {
        if !queue.read({ $0.stopped }) { onFailure(error) }
      }
    }
  }

  func append(_ sequence: UInt64, _ frame: IncomingFrame) {
    queue.update { $0.items.append((sequence, frame)) }
  }

  /// Ends the thread. One that a disk holds is left to it: it finds QEMU's socket shut if it ever comes back, and says
  /// nothing of its frame.
  func stop() {
    queue.update { $0.stopped = true }
    qemu.shutdown()
    _ = hasEnded.wait(timeoutMs: Self.endMs) { $0 ? true : nil }
  }

  private func checkRuns() throws(RelayFailure) {
    if queue.read({ $0.stopped }) { throw .stopped }
  }

  private func write(
    _ sequence: UInt64, _ frame: IncomingFrame, _ writer: inout RAMWriter?
  ) throws(RelayFailure) {
    do {
      switch frame {
      case .verbatim(let bytes), .tail(let bytes):
        setUnread(Self.unreadBytesMax)
        try unsafe qemu.writeAll(bytes.span.bytes)
        writer?.resetContinuation()
      case .ramEnd:
        var bytes: [UInt8] = []
        try withWriter(&writer) { writer in
          writer.beginEnd(into: &bytes)
          writer.endSection(into: &bytes)
        }
        try unsafe qemu.writeAll(bytes.span.bytes)
      case .pages(let header, let buffer):
        try writePart(header, buffer, &writer)
      case .encoded(let header, let body):
        let buffer = try unpacking.unpack(sequence, header, body)
        try checkRuns()
        try writePart(header.batch, buffer, &writer)
        unpacking.unpacking.giveBack(buffer)
      case .deviceState:
        setUnread(Self.unreadBytesMax)
        try handOver()
      case .invalidPages: break
      }
    } catch let error as RelayFailure {
      throw error
    } catch {
      throw .qemu("\(error)")
    }
  }

  private func withWriter(
    _ writer: inout RAMWriter?, _ body: (inout RAMWriter) -> Void
  ) throws(RelayFailure) {
    if writer == nil {
      guard let (blocks, sectionID) = layout() else {
        throw .protocolViolation("pages before the RAM layout")
      }
      writer = RAMWriter(sectionID: sectionID, blocks: blocks)
    }
    if var current = writer {
      body(&current)
      writer = current
    }
  }

  private func setUnread(_ bytes: Int) {
    guard unreadBytes.read({ $0 }) != bytes else { return }
    unreadBytes.update { $0 = bytes }
    qemu.setUnread(bytes: bytes)
  }

  /// One PART section: record headers, and page bytes straight from the batch.
  private func writePart(
    _ header: BatchHeader, _ buffer: PageBuffer?, _ writer: inout RAMWriter?
  ) throws(any Error) {
    // Between pages with contents few of them can be hidden.
    let isOfZeros = header.zeroPageCount > 64 * header.rawPageCount
    setUnread(isOfZeros ? Self.unreadZerosMax : Self.unreadBytesMax)
    var gathered = GatheredPages()
    var page = 0
    try withWriter(&writer) { $0.beginPart(into: &gathered.head) }
    for run in header.runs {
      let block = Int(run.block)
      if isInPlace(block) {
        if run.pageClass == .raw { page += Int(run.count) }
        continue
      }
      for index in 0..<UInt64(run.count) {
        let offset = (run.firstPage + index) << UInt64(Page.shift)
        try withWriter(&writer) { writer in
          switch run.pageClass {
          case .zero: writer.zeroPage(block: block, offset: offset, into: &gathered.head)
          case .raw:
            writer.pageHeader(block: block, offset: offset, into: &gathered.head)
            gathered.cut(page: page)
            page += 1
          }
        }
        if gathered.isFull { try gathered.flush(to: qemu, pages: buffer) }
      }
    }
    try withWriter(&writer) { $0.endSection(into: &gathered.head) }
    try gathered.flush(to: qemu, pages: buffer)
  }
}
