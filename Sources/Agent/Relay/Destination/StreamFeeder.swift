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
  private let thread = Guarded<WorkerThread?>(nil)

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
    let worker = WorkerThread("gw-qemu-tx") { [self] in
      var writer: RAMWriter?
      do throws(RelayFailure) {
        while true {
          let item = queue.wait { queue -> (UInt64, IncomingFrame)?? in
            if queue.stopped { return .some(nil) }
            return queue.items.isEmpty ? nil : .some(queue.items.removeFirst())
          }
          guard let (sequence, frame) = item ?? nil else { return }
          try write(sequence, frame, &writer)
          try onApplied(sequence, frame)
        }
      } catch {
        onFailure(error)
      }
    }
    thread.update { $0 = worker }
  }

  func append(_ sequence: UInt64, _ frame: IncomingFrame) {
    queue.update { $0.items.append((sequence, frame)) }
  }

  func stop() {
    queue.update { $0.stopped = true }
    qemu.shutdown()
    thread.update { $0 }?.join()
  }

  private func write(
    _ sequence: UInt64, _ frame: IncomingFrame, _ writer: inout RAMWriter?
  ) throws(RelayFailure) {
    do {
      switch frame {
      case .verbatim(let bytes), .tail(let bytes):
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
        try writePart(header.batch, buffer, &writer)
        unpacking.unpacking.giveBack(buffer)
      case .deviceState: try handOver()
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

  /// One PART section: record headers, and page bytes straight from the batch.
  private func writePart(
    _ header: BatchHeader, _ buffer: PageBuffer?, _ writer: inout RAMWriter?
  ) throws(any Error) {
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
