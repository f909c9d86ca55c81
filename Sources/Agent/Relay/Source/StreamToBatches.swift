import Base
import HostIO
import QEMUStream
import Wire

/// Turns QEMU's stream into batches and ordered frames: the visitor of the source's reader thread.
struct StreamToBatches: StreamVisitor {
  /// What the session learns as the stream goes by.
  enum Event: Sendable {
    case layout([RAMBlock], sectionID: UInt32)
    /// RAM's last section begins: the guest is stopped.
    case guestStopped
    /// RAM and device state are complete and queued.
    case ended
    /// The rest of the stream passes unread, because of the reason.
    case handedOver(String)
  }

  private let queue: SendQueue
  private let control: ControlLane
  /// Shared guest memory by block name; blocks that are missing travel inline.
  private let shared: [String: SharedFile]
  private let onEvent: @Sendable (Event) -> Void

  private var tracker = BarrierTracker(blockPages: [])
  private var blocks: [RAMBlock] = []
  private var blockIsShared: [Bool] = []
  private var sectionID: UInt32 = 0
  /// The batch under construction.
  private var runs: [PageRun] = []
  private var rawPages = 0
  private var zeroPages = 0
  private var buffer: PageBuffer?
  /// The last page queued, by value (empty: zeros); see `handedOver`.
  private var lastPage: (block: Int, offset: UInt64, bytes: [UInt8])?
  /// The RAM section that the stream is inside of.
  private var openSection: SectionKind?
  private(set) var failure: RelayFailure?

  init(
    queue: SendQueue, control: ControlLane, shared: [String: SharedFile],
    onEvent: @escaping @Sendable (Event) -> Void
  ) {
    (self.queue, self.control, self.shared, self.onEvent) = (queue, control, shared, onEvent)
  }

  mutating func verbatim(_ bytes: RawSpan, _ item: VerbatimItem) throws(VisitorStopped) {
    // Without a length of its own: as long as the guest's RAM, after a hand-over.
    let isLong = item == .opaque || item == .packaged
    try sendInOrder(.verbatim, bytes, inWindow: isLong)
  }

  mutating func ramBlocks(_ blocks: [RAMBlock], sectionID: UInt32) throws(VisitorStopped) {
    let bitmapBytes = blocks.reduce(0) { $0 + UInt64($1.pageCount / 8) }
    guard bitmapBytes <= queue.memoryLimit else {
      let needed = "\(bitmapBytes >> 20) MiB to keep track of the guest's RAM"
      return try carry(.failure(.memory("\(needed) are over the memory limit of the agent")))
    }
    self.blocks = blocks
    self.sectionID = sectionID
    blockIsShared = blocks.map { shared[$0.name] != nil }
    tracker.setBlocks(pages: blocks.map(\.pageCount))
    onEvent(.layout(blocks, sectionID: sectionID))
    try carry(
      Result { () throws(RelayFailure) in
        try control.send(.message, try PeerMessage.layout(blocks, sectionID: sectionID).encoded())
      })
    // An empty step behind the layout: batches wait for it, so none is applied before the layout.
    try sendInOrder(.verbatim, RawSpan())
  }

  mutating func ramPartBegan() throws(VisitorStopped) { openSection = .part }

  mutating func page(block: Int, offset: UInt64, bytes: RawSpan) throws(VisitorStopped) {
    let isShared = blockIsShared[block]
    if isShared != (buffer == nil), rawPages > 0 { try flush() }
    try add(block, offset, .raw)
    if !isShared {
      if buffer == nil { buffer = queue.takeBuffer() }
      buffer?.store(bytes, at: (rawPages - 1) * Page.size)
    }
    if rawPages == BatchLimits.rawPagesMax { try flush() }
  }

  mutating func zeroPage(block: Int, offset: UInt64) throws(VisitorStopped) {
    try add(block, offset, .zero)
    if zeroPages == BatchLimits.zeroPagesMax { try flush() }
  }

  mutating func ramPartEnded() throws(VisitorStopped) {
    openSection = nil
    if queue.isStarving { try flush() }
  }

  mutating func ramEndBegan() throws(VisitorStopped) {
    openSection = .end
    queue.guestStopped()
    onEvent(.guestStopped)
  }

  mutating func ramEnded() throws(VisitorStopped) {
    openSection = nil
    try sendInOrder(.ramEnd, RawSpan())
  }

  mutating func tail(_ bytes: RawSpan) throws(VisitorStopped) { try sendInOrder(.tail, bytes) }

  mutating func ended(descriptionLength: Int) throws(VisitorStopped) {
    try flush()
    onEvent(.ended)
  }

  mutating func handedOver(
    _ reason: HandoverReason, at offset: UInt64, lastBlock: Int?
  ) throws(VisitorStopped) {
    try flush()
    // The records that follow may say "same block as before" and may stand in the middle of a
    // section. The destination's QEMU has seen other sections than the source's wrote, so it is
    // brought to the same place: the section opened, the last page said once more by name.
    var bytes: [UInt8] = []
    var writer = RAMWriter(sectionID: sectionID, blocks: blocks)
    if lastPage != nil || openSection != nil {
      if openSection == .end {
        writer.beginEnd(into: &bytes)
      } else {
        writer.beginPart(into: &bytes)
      }
      if let lastPage {
        if lastPage.bytes.isEmpty {
          writer.zeroPage(block: lastPage.block, offset: lastPage.offset, into: &bytes)
        } else {
          writer.pageHeader(block: lastPage.block, offset: lastPage.offset, into: &bytes)
          bytes += lastPage.bytes
        }
      }
      if openSection == nil { writer.endSection(into: &bytes) }
      try unsafe sendInOrder(.verbatim, bytes.span.bytes)
    }
    onEvent(.handedOver("\(reason) at byte \(offset)"))
  }

  private mutating func add(
    _ block: Int, _ offset: UInt64, _ pageClass: PageClass
  ) throws(VisitorStopped) {
    let page = offset >> UInt64(Page.shift)
    if !tracker.note(block: block, page: Int(page)) {
      try flush()
      tracker.placeBarrier()
      _ = tracker.note(block: block, page: Int(page))
    }
    if pageClass == .raw { rawPages += 1 } else { zeroPages += 1 }
    let number = UInt16(truncatingIfNeeded: block)  // the reader's limit on blocks is below 2^16
    if !runs.isEmpty,
      runs[runs.count - 1].extend(block: number, pageClass: pageClass, page: page)
    {
      return
    }
    if runs.count == BatchLimits.runsMax {
      if pageClass == .raw { rawPages -= 1 } else { zeroPages -= 1 }
      try flush()
      _ = tracker.note(block: block, page: Int(page))
      if pageClass == .raw { rawPages += 1 } else { zeroPages += 1 }
    }
    runs.append(PageRun(block: number, pageClass: pageClass, firstPage: page, count: 1))
  }

  /// Queues what is under construction.
  mutating func flush() throws(VisitorStopped) {
    guard !runs.isEmpty else { return }
    if let last = runs.last { try remember(last) }
    let header = BatchHeader(place: tracker.nextPlace(), runs: runs)
    let batch = PageBatch(header: header, buffer: rawPages > 0 ? buffer : nil)
    if rawPages > 0 { buffer = nil }
    runs.removeAll(keepingCapacity: true)
    (rawPages, zeroPages) = (0, 0)
    try carry(Result { () throws(RelayFailure) in try queue.append(batch) })
  }

  /// Keeps the last page of a batch by value.
  private mutating func remember(_ run: PageRun) throws(VisitorStopped) {
    let block = Int(run.block)
    let offset = (run.firstPage + UInt64(run.count) - 1) << UInt64(Page.shift)
    guard run.pageClass == .raw else { return lastPage = (block, offset, []) }
    if let buffer {
      let start = (rawPages - 1) * Page.size
      return lastPage = (block, offset, unsafe Array(buffer.part(start, Page.size)))
    }
    guard let memory = shared[blocks[block].name] else { return }
    var bytes = [UInt8](repeating: 0, count: Page.size)
    do {
      // SAFETY: the buffer lives for the call, and its own count bounds it.
      try unsafe bytes.withUnsafeMutableBytes { raw in
        try unsafe memory.read(at: offset, into: raw)
      }
    } catch {
      return try carry(.failure(.memory("\(error)")))
    }
    lastPage = (block, offset, bytes)
  }

  /// Sends bytes that must be applied after everything before and before everything behind them.
  ///
  /// - Parameter inWindow: wait for room in the window, like a batch. What follows the guest's stop
  ///   does not: it is small, and back-pressure would freeze a stopped QEMU's monitor.
  private mutating func sendInOrder(
    _ type: FrameType, _ bytes: RawSpan, inWindow: Bool = false
  ) throws(VisitorStopped) {
    try flush()
    var start = 0
    repeat {
      let count = min(bytes.byteCount - start, SequencedHeader.chunkMax)
      var payload: [UInt8] = []
      payload.reserveCapacity(SequencedHeader.byteCount + count)
      let place = tracker.nextExclusivePlace()
      if inWindow {
        let weight = UInt64(FrameHeader.byteCount + SequencedHeader.byteCount + count)
        try carry(
          Result { () throws(RelayFailure) in
            try queue.announce(place.sequence, bytes: weight)
          })
      } else {
        queue.announce(place.sequence)
      }
      place.encode(into: &payload)
      payload.append(contentsOf: bytes.extracting(start..<(start + count)))
      start += count
      try carry(Result { () throws(RelayFailure) in try control.send(type, payload) })
    } while start < bytes.byteCount
  }

  /// Keeps a failure for the reader's thread and stops the reader.
  private mutating func carry(_ result: Result<Void, RelayFailure>) throws(VisitorStopped) {
    if case .failure(let error) = result {
      failure = error
      throw VisitorStopped()
    }
  }
}
