import Base
import Compaction
import HostIO
import QEMUStream
import Wire

/// What one encoding thread does with a batch.
final class BatchEncoder {
  /// Raw pages up to which they are copied behind the rest, so that a whole batch's buffer need not be
  /// kept for a few of them until the destination has them.
  static let copiedPagesMax = 64

  private let packer = BatchPacker()
  private let queue: SendQueue
  private let memory: @Sendable (Int) -> GuestPlace?
  /// Nil: pages are not made of what the destination has.
  private let references: SentReferences?
  /// What a snapshot at the destination holds; nil: there is none that may be used.
  private let held: HeldPages?
  /// Nil: pages do not refer to blocks of images.
  private let disks: DiskDirectory?
  /// Nil: the guest goes alone.
  private let gang: GangReferences?
  /// Names of blocks that the destination can ask for pages of.
  private let answerable: Set<String>
  private let blocks: @Sendable () -> [RAMBlock]

  init(
    queue: SendQueue, references: SentReferences?, held: HeldPages?, disks: DiskDirectory?,
    gang: GangReferences?, answerable: Set<String>, blocks: @escaping @Sendable () -> [RAMBlock],
    memory: @escaping @Sendable (Int) -> GuestPlace?
  ) {
    (self.queue, self.references, self.memory) = (queue, references, memory)
    (self.held, self.disks, self.blocks, self.answerable) = (held, disks, blocks, answerable)
    self.gang = gang
  }

  /// The batch in the form that it goes in; itself where packing gains nothing.
  func encode(_ batch: PageBatch, _ effort: Effort) throws(RelayFailure) -> PageBatch {
    let pages = batch.header.rawPageCount
    gang?.forget(batch.header.runs)
    // Naming what the destination holds is cheaper than sending it, so the effort has no say in this.
    let filters = held?.filters(of: batch.header.runs, blocks()) ?? []
    let mayBeHeld = filters.contains { $0 != 0 }
    let mayName = disks != nil || gang != nil || held?.elsewhere != nil
    guard pages > 0, effort != .off || mayBeHeld || mayName else {
      references?.forget(batch.header.runs)
      return batch
    }
    let buffer = try filled(batch)
    let packed = pack(batch.header, buffer, effort, mayBeHeld ? filters : [])
    guard packed.savedBytes > 0 else {
      return PageBatch(header: batch.header, buffer: buffer, isScan: batch.isScan)
    }
    return arrange(packed, buffer, isScan: batch.isScan)
  }

  private func pack(
    _ header: BatchHeader, _ buffer: PageBuffer, _ effort: Effort, _ filters: [UInt64]
  ) -> PackedBatch {
    let contents = buffer.span(header.rawPageCount * Page.size)
    let isInPlace = references?.mayRefer(header.runs) == true
    let mayName = isInPlace || mayNameOthers(header.runs)
    let disks = mayName ? disks : nil
    let (gang, elsewhere) = mayName ? (gang, held?.elsewhere) : (nil, nil)
    let mayRefer = effort != .off && isInPlace
    if !mayRefer { references?.forget(header.runs) }
    guard mayRefer || disks != nil || gang != nil || elsewhere != nil || !filters.isEmpty else {
      return unsafe packer.pack(header, contents, effort)
    }
    let sent = mayRefer ? references : nil
    let sequence = header.place.sequence
    let look = gang?.look(at: contents, count: header.rawPageCount)
    var pages = header.runs.rawPlaces.map {
      SentReferences.Page(block: $0.block, number: $0.page, hash: nil)
    }
    var after: UInt64 = 0
    var packed = unsafe packer.pack(header, contents, effort, mayRefer: true) {
      index, content, target in
      if !filters.isEmpty,
        let identity = held?.identity(of: content, filter: filters[index])
      {
        return .held(proof: identity)
      }
      let found = unsafe sent?.find(&pages[index], content, for: sequence, into: target)
      after = max(after, found?.after ?? 0)
      if let reference = found?.reference { return reference }
      if let note = disks?.find(content) { return .disk(note) }
      if let note = elsewhere?.find(content) { return .vault(note) }
      guard let gang, let place = look?.places[index] else { return nil }
      return .gang(gang.note(place, content))
    }
    packed.wait(for: after)
    if !packed.heldIdentities.isEmpty {
      packed.prove(unsafe PageIdentity.bytes(of: packed.heldIdentities.span.bytes))
    }
    sent?.sent(pages, contents, runs: header.runs, sequence: sequence)
    if let look { gang?.sent(header.runs, look, sequence: sequence) }
    return packed
  }

  /// Whether pages that only QEMU writes at the destination may be the same as blocks of disks or pages of other
  /// guests: where all of the guest's memory is written so, and what is asked for can be read here.
  private func mayNameOthers(_ runs: [PageRun]) -> Bool {
    guard references == nil else { return false }
    let blocks = blocks()
    return runs.allSatisfy { run in
      let block = Int(run.block)
      return run.pageClass == .zero
        || blocks.indices.contains(block) && answerable.contains(blocks[block].name)
    }
  }

  /// The batch's pages: those it carries, or what guest memory holds now.
  private func filled(_ batch: PageBatch) throws(RelayFailure) -> PageBuffer {
    if let buffer = batch.buffer { return buffer }
    let buffer = queue.takeBuffer()
    try buffer.readPages(of: batch.header, memory: memory)
    return buffer
  }

  private func arrange(
    _ packed: PackedBatch, _ buffer: PageBuffer, isScan: Bool
  ) -> PageBatch {
    guard packed.rawPages.count > Self.copiedPagesMax else {
      var lead = packed.lead
      lead.reserveCapacity(lead.count + packed.rawPages.count * Page.size)
      for page in packed.rawPages {
        unsafe lead.append(contentsOf: buffer.part(page * Page.size, Page.size))
      }
      queue.giveBack(buffer)
      return PageBatch(
        encoded: packed.header, lead: lead, buffer: nil, bodyByteCount: 0, isScan: isScan)
    }
    for (index, page) in packed.rawPages.enumerated() where index != page {
      // SAFETY: `part` checks the bounds; raw pages move towards the start only, one at a time.
      unsafe buffer.part(index * Page.size, Page.size).copyMemory(
        from: UnsafeRawBufferPointer(buffer.part(page * Page.size, Page.size)))
    }
    return PageBatch(
      encoded: packed.header, lead: packed.lead, buffer: buffer,
      bodyByteCount: packed.rawPages.count * Page.size, isScan: isScan)
  }
}

extension PageBuffer {
  /// Reads the batch's pages that are not zero out of guest memory as they are now: at least as new as
  /// QEMU saw them.
  func readPages(
    of header: BatchHeader, memory: (Int) -> GuestPlace?
  ) throws(RelayFailure) {
    var offset = 0
    for run in header.runs where run.pageClass == .raw {
      let count = Int(run.count) * Page.size
      guard let place = memory(Int(run.block)) else {
        throw .memory("RAM block \(run.block) can't be read")
      }
      do {
        try unsafe place.read(page: run.firstPage, into: part(offset, count))
      } catch {
        throw .memory("\(error)")
      }
      offset += count
    }
  }
}
