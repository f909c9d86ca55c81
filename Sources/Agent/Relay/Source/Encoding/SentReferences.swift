import Base
import Compaction
import HostIO
import QEMUStream
import Wire

/// What the source remembers of pages that it sent, for encoders on several threads.
final class SentReferences: Sendable {
  /// A page of a batch, and where it is.
  struct Page {
    let block: UInt16
    let number: UInt64
    /// Of its content, once it was looked for.
    var hash: UInt64?
  }

  /// Nil before the first batch.
  private let memory = Guarded<SentMemory?>(nil)
  private let blocks: @Sendable () -> [RAMBlock]
  /// Names of blocks that both ends read directly.
  private let readable: Set<String>
  private let byteLimit: UInt64
  private let seed: UInt64

  /// - Parameters:
  ///   - blocks: the stream's RAM blocks, known before its first page.
  ///   - byteLimit: memory for it.
  init(readable: Set<String>, byteLimit: UInt64, blocks: @escaping @Sendable () -> [RAMBlock]) {
    (self.readable, self.byteLimit, self.blocks) = (readable, byteLimit, blocks)
    var random = SystemRandomNumberGenerator()
    seed = random.next()
  }

  /// Before pages are numbered that the generation does not have: whether a barrier must stand before them all the
  /// same, see `SentMemory.numbering`.
  func numbering(_ runs: [PageRun]) -> Bool {
    memory.update { memory in
      if memory == nil {
        let blocks = blocks()
        memory = SentMemory(
          blockPages: blocks.map(\.pageCount),
          isReadable: blocks.map { readable.contains($0.name) }, byteLimit: byteLimit)
      }
      return memory?.numbering(runs) ?? false
    }
  }

  /// A barrier stands before the pages, and nothing before it is left to encode.
  func separated(_ runs: [PageRun]) { memory.update { $0?.separated(runs) } }

  /// Whether a batch of these pages may refer to others; what it brings is remembered then.
  func mayRefer(_ runs: [PageRun]) -> Bool { memory.read { $0?.mayRefer(runs) ?? false } }

  /// How a page of frame `sequence` is made of what the destination has, and which frame that needs.
  func find(
    _ page: inout Page, _ content: RawSpan, for sequence: UInt64,
    into target: UnsafeMutableRawBufferPointer
  ) -> (reference: PageReference, after: UInt64)? {
    let hash = SentMemory.hash(content, seed: seed)
    page.hash = hash
    let (block, number) = (page.block, page.number)
    // A span cannot go into the closure, a pointer can.
    let found = unsafe content.withUnsafeBytes { raw -> SentMemory.Found? in
      memory.update { memory in
        // SAFETY: the bytes outlive the closure.
        unsafe memory?.find(
          block: block, page: number, RawSpan(_unsafeBytes: raw), hash: hash, for: sequence,
          into: target)
      }
    }
    switch found {
    case nil: return nil
    case .delta: return (.delta(check: PageDelta.check(content)), 0)
    case .duplicate(let place):
      let note = DuplicateNote(
        block: place.block, page: place.page, identity: PageIdentity.bytes(of: content))
      return (.duplicate(note), place.sequence)
    }
  }

  /// The pages go with these contents in frame `sequence`, and the zeros of `runs`.
  func sent(_ pages: [Page], _ contents: RawSpan, runs: [PageRun], sequence: UInt64) {
    unsafe contents.withUnsafeBytes { raw in
      memory.update { memory in
        // SAFETY: the bytes outlive the closure.
        let contents = unsafe RawSpan(_unsafeBytes: raw)
        for (index, page) in pages.enumerated() {
          let start = index << Base.Page.shift
          memory?.sent(
            block: page.block, page: page.number,
            contents.extracting(start..<start + Base.Page.size), hash: page.hash,
            sequence: sequence)
        }
        for run in runs where run.pageClass == .zero { memory?.forgetContents(run) }
      }
    }
  }

  /// Pages go that nobody looked at.
  func forget(_ runs: [PageRun]) {
    memory.update { memory in for run in runs { memory?.forgetContents(run) } }
  }
}
