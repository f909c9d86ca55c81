import Base
import Glibc
import HostIO
import QEMUStream
import Wire

/// The one writer of the destination QEMU's stream: regenerates RAM sections from batches and puts
/// QEMU's own bytes between them.
///
/// Its queue needs no bound of its own: what it holds is counted by `ApplyPipe`.
final class StreamFeeder: Sendable {
  /// Header bytes gathered before a write, at most.
  private static let headBytesMax = 256 << 10

  private struct Queue {
    var items: [(sequence: UInt64, frame: IncomingFrame)] = []
    var stopped = false
  }

  private let qemu: StreamSocket
  private let queue = Guarded(Queue())
  private let layout: @Sendable () -> (blocks: [RAMBlock], sectionID: UInt32)?
  /// Blocks that are written in place, by number: their pages are left out here.
  private let isInPlace: @Sendable (Int) -> Bool
  private let thread = Guarded<WorkerThread?>(nil)

  init(
    qemu: StreamSocket, layout: @escaping @Sendable () -> ([RAMBlock], UInt32)?,
    isInPlace: @escaping @Sendable (Int) -> Bool
  ) {
    (self.qemu, self.isInPlace) = (qemu, isInPlace)
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
          try write(frame, &writer)
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

  private func write(_ frame: IncomingFrame, _ writer: inout RAMWriter?) throws(RelayFailure) {
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

  /// One PART section: record headers from `head`, page bytes straight from the batch.
  private func writePart(
    _ header: BatchHeader, _ buffer: PageBuffer?, _ writer: inout RAMWriter?
  ) throws(any Error) {
    var head: [UInt8] = []
    // Where page bytes go in between: offset in `head`, page number in the batch, pages.
    var cuts: [(at: Int, page: Int)] = []
    var page = 0
    try withWriter(&writer) { $0.beginPart(into: &head) }
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
          case .zero: writer.zeroPage(block: block, offset: offset, into: &head)
          case .raw:
            writer.pageHeader(block: block, offset: offset, into: &head)
            cuts.append((head.count, page))
            page += 1
          }
        }
        if head.count > Self.headBytesMax { try flush(&head, &cuts, buffer) }
      }
    }
    try withWriter(&writer) { $0.endSection(into: &head) }
    try flush(&head, &cuts, buffer)
  }

  private func flush(
    _ head: inout [UInt8], _ cuts: inout [(at: Int, page: Int)], _ buffer: PageBuffer?
  ) throws {
    try unsafe head.withUnsafeMutableBytes { raw in
      var parts = unsafe Self.gather(raw, cuts, buffer)
      try unsafe qemu.writeAll(&parts)
    }
    head.removeAll(keepingCapacity: true)
    cuts.removeAll(keepingCapacity: true)
  }

  /// Record headers and page bytes in turn, as system calls take them.
  private static func gather(
    _ head: UnsafeMutableRawBufferPointer, _ cuts: [(at: Int, page: Int)], _ buffer: PageBuffer?
  ) -> [iovec] {
    var parts: [iovec] = unsafe []
    unsafe parts.reserveCapacity(cuts.count * 2 + 1)
    var start = 0
    for cut in cuts {
      // SAFETY: offsets come from `head.count` as it grew, so they are in bounds and rising.
      let bytes = unsafe UnsafeMutableRawBufferPointer(rebasing: head[start..<cut.at])
      unsafe parts.append(iovec(iov_base: bytes.baseAddress, iov_len: bytes.count))
      if let page = unsafe buffer?.part(cut.page * Page.size, Page.size) {
        unsafe parts.append(iovec(iov_base: page.baseAddress, iov_len: page.count))
      }
      start = cut.at
    }
    let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: head[start...])
    unsafe parts.append(iovec(iov_base: rest.baseAddress, iov_len: rest.count))
    return unsafe parts
  }
}
