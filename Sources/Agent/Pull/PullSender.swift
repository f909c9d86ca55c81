import Base
import Compaction
import HostIO
import Strategy
import Wire

/// What one connection of a pull carries to the destination, as the thread at the source writes it.
final class PullSender {
  private let frames: FrameSocket
  private let memory: StoppedMemory
  /// Nil: pages go as they are.
  private let packing: (shared: PullPacking, packer: BatchPacker)?
  private let buffer = PageBuffer(byteCount: PullConnections.aheadPages * Page.size)
  private var sequence: UInt64 = 0
  /// When it was done with its last work, in microseconds.
  private var idleFromUs = MonotonicClock.nowUs

  /// - Parameter packing: nil: pages go as they are.
  init(_ frames: FrameSocket, _ memory: StoppedMemory, packing: PullPacking?) {
    (self.frames, self.memory) = (frames, memory)
    self.packing = packing.map { (shared: $0, packer: BatchPacker()) }
  }

  func heartbeat() throws(RelayFailure) {
    var payload: [UInt8] = []
    Heartbeat(receivedThrough: 0).encode(into: &payload)
    try unsafe frames.send(.heartbeat, payload)
  }

  func say(_ heat: [PullHeat]) throws(RelayFailure) {
    for frame in heat {
      var payload: [UInt8] = []
      frame.encode(into: &payload)
      try unsafe frames.send(.pullHeat, payload)
    }
  }

  /// What proves pages that follow each other, which the destination may have.
  ///
  /// - Parameter onKnown: told, before they are sent, for how many of them there is proof.
  /// - Returns: bytes of the frame.
  func identify(
    _ pages: Range<Int>, _ identifier: PullIdentifier?, onKnown: (Int) -> Void
  ) throws(RelayFailure) -> UInt64 {
    let (block, firstPage) = place(of: pages)
    var identities = [PullIdentity](repeating: .unknown, count: pages.count)
    if let identifier {
      let buffer = self.buffer
      try read(pages, at: 0)
      identities = identifier.identities(
        block: block, firstPage: firstPage, of: buffer.span(pages.count * Page.size))
    }
    onKnown(identities.count { $0 != .unknown })
    var payload: [UInt8] = []
    PullIdentities(block: block, firstPage: firstPage, identities: identities)
      .encode(into: &payload)
    try unsafe frames.send(.pullIdentities, payload)
    idleFromUs = MonotonicClock.nowUs
    return UInt64(FrameHeader.byteCount + payload.count)
  }

  /// One frame with all of the pages, at most `PullConnections.aheadPages`: zero pages by name only, the others as small as
  /// it pays, or as they are.
  func send(_ runs: [Range<Int>]) throws(RelayFailure) -> PullTally {
    let beganUs = MonotonicClock.nowUs
    let picked = try gather(runs)
    sequence += 1
    let header = BatchHeader(
      place: SequencedHeader(sequence: sequence, after: 0), runs: picked.runs)
    var packed: PackedBatch?
    if let packing {
      let buffer = self.buffer
      packed = packing.shared.pack(
        header, buffer.span(picked.rawPages * Page.size), with: packing.packer)
    }
    let tally = PullTally(header, packed)
    let writingFromUs = MonotonicClock.nowUs
    try write(header, packed)
    let writtenUs = MonotonicClock.nowUs
    packing?.shared.sent(
      .init(
        coveredBytes: tally.pages << UInt64(Page.shift), wireBytes: tally.wireBytes,
        idleFromUs: idleFromUs, beganUs: beganUs, writingFromUs: writingFromUs,
        writtenUs: writtenUs))
    idleFromUs = writtenUs
    return tally
  }

  private func write(_ header: BatchHeader, _ packed: PackedBatch?) throws(RelayFailure) {
    var head: [UInt8] = []
    guard let packed else {
      header.encode(into: &head)
      return try unsafe frames.send(
        .pages, head, body: buffer.part(0, header.rawPageCount * Page.size))
    }
    head.reserveCapacity(packed.header.byteCount + packed.lead.count)
    packed.header.encode(into: &head)
    head += packed.lead
    for (index, page) in packed.rawPages.enumerated() { move(page: page, to: index) }
    try unsafe frames.send(
      .encodedPages, head, body: buffer.part(0, packed.rawPages.count * Page.size))
  }

  /// Reads the pages; those that are not zero are side by side in the buffer then, from its start on.
  private func gather(_ runs: [Range<Int>]) throws(RelayFailure) -> PickedPages {
    let buffer = self.buffer
    var picked = PickedPages()
    for pages in runs {
      let (block, firstPage) = place(of: pages)
      let start = picked.rawPages
      try read(pages, at: start)
      for index in 0..<pages.count {
        let place = start + index
        let isZero = buffer.span((place + 1) * Page.size).extracting(last: Page.size).isAllZero
        if !isZero { move(page: place, to: picked.rawPages) }
        picked.add(block: block, page: firstPage + UInt64(index), isZero: isZero)
      }
    }
    return picked
  }

  /// Within the buffer, towards its start.
  private func move(page: Int, to target: Int) {
    guard page != target else { return }
    // SAFETY: `part` checks its bounds; two pages that are not the same don't overlap.
    unsafe buffer.part(target * Page.size, Page.size).copyMemory(
      from: UnsafeRawBufferPointer(buffer.part(page * Page.size, Page.size)))
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

  /// Reads pages that follow each other into the buffer, `at` so many pages from its start.
  private func read(_ pages: Range<Int>, at start: Int) throws(RelayFailure) {
    let (block, firstPage) = place(of: pages)
    do {
      try unsafe memory.read(
        block: Int(block), firstPage: firstPage,
        into: buffer.part(start * Page.size, pages.count * Page.size))
    } catch { throw .memory("\(error)") }
  }
}
