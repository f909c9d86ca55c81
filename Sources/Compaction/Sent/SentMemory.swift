import Base
import CXXHash
public import Wire

/// What the destination holds, as far as the source remembers: so that a page can be sent as a reference to it.
///
/// Deltas are made against the version of the same page that was sent before; duplicates name another page.
/// What a frame refers to must be the same when the frame is applied as when it was written. The barriers
/// (`BarrierTracker`) order the versions of one page; for pages that duplicates name, this does:
/// - `numbering` forgets a page before its next version is numbered, so nothing written afterwards names
///   it;
/// - what was named already in this generation makes `numbering` ask for a barrier, so the next version
///   is applied later;
/// - the frame that names a page waits for the frame that brought it (`Reference.sequence`).
/// The caller encodes everything that is numbered before it goes on behind a barrier.
public struct SentMemory: Sendable {
  /// Words of a page's 512 that may differ from the version before for a delta to be made.
  static let deltaWordsMax = 256

  /// A page that the destination has, for a frame to name.
  public struct Reference: Sendable, Hashable {
    /// Index into the RAM block list of the stream, and page within the block.
    public let block: UInt16
    public let page: UInt64
    /// The frame that brought the page's content.
    public let sequence: UInt64
  }

  private let bases: [Int]
  private let counts: [Int]
  /// Blocks that the destination can read pages of.
  private let isReadable: [Bool]
  private var pages: SentPages
  /// Nil where it would take more than a quarter of the memory, or the guest has too many pages for it.
  private var directory: SentDirectory?
  /// Pages that duplicates name which are not known to be applied: of this generation.
  private var named: PageBitmap

  /// - Parameters:
  ///   - blockPages: pages of each RAM block.
  ///   - isReadable: blocks that the destination can read pages of.
  ///   - byteLimit: memory for all of it.
  public init(blockPages: [Int], isReadable: [Bool], byteLimit: UInt64) {
    precondition(isReadable.count == blockPages.count)
    var bases: [Int] = []
    var total = 0
    for count in blockPages {
      bases.append(total)
      total += count
    }
    (self.bases, counts, self.isReadable) = (bases, blockPages, isReadable)
    let directoryBytes = SentDirectory.byteCount(pages: total)
    if total <= SentDirectory.pagesMax, directoryBytes <= byteLimit / 4 {
      directory = SentDirectory(pages: total)
      named = PageBitmap(count: total)
      pages = SentPages(byteLimit: byteLimit - directoryBytes)
    } else {
      named = PageBitmap(count: 0)
      pages = SentPages(byteLimit: byteLimit)
    }
  }

  /// Whether every page of a frame is where the destination can read pages.
  public func mayRefer(_ runs: [PageRun]) -> Bool {
    runs.allSatisfy { Int($0.block) < isReadable.count && isReadable[Int($0.block)] }
  }

  private func numbers(_ run: PageRun) -> Range<Int> {
    let first = bases[Int(run.block)] + Int(run.firstPage)
    return first..<first + Int(run.count)
  }

  /// A frame with these pages is numbered next. True: a frame that may be applied at the same time names
  /// one of them. Place a barrier, encode all that is numbered, and call `separated`.
  public mutating func numbering(_ runs: [PageRun]) -> Bool {
    if named.population > 0 {
      for run in runs { for number in numbers(run) where named[number] { return true } }
    }
    for run in runs {
      let numbers = numbers(run)
      directory?.forget(numbers)
    }
    return false
  }

  /// A barrier stands before the frame with these pages, and everything before it is encoded.
  public mutating func separated(_ runs: [PageRun]) {
    named.removeAll()
    for run in runs {
      let numbers = numbers(run)
      directory?.forget(numbers)
    }
  }

  /// The hash by which content is looked for.
  ///
  /// - Parameter seed: the same for all pages of a migration, and drawn by lot, so that no guest can aim at
  ///   the hash.
  public static func hash(_ page: RawSpan, seed: UInt64) -> UInt64 {
    // SAFETY: the pointer does not leave the closure.
    unsafe page.withUnsafeBytes { raw in
      unsafe XXH3_64bits_withSeed(raw.baseAddress, raw.count, seed)
    }
  }

  /// A page that the destination should have with the content that has this hash, for frame `sequence` to
  /// name.
  public mutating func duplicate(_ hash: UInt64, for sequence: UInt64) -> Reference? {
    guard let found = directory?.find(hash), found.sequence < sequence else { return nil }
    guard let block = bases.lastIndex(where: { $0 <= found.number }), isReadable[block],
      found.number - bases[block] < counts[block]
    else { return nil }
    _ = named.insert(found.number)
    return Reference(
      block: UInt16(truncatingIfNeeded: block), page: UInt64(found.number - bases[block]),
      sequence: found.sequence)
  }

  /// What the destination can make a page of.
  public enum Found: Sendable, Hashable {
    /// The difference was written.
    case delta
    case duplicate(Reference)
  }

  /// How a page of frame `sequence` is made of what the destination has, the smallest way first.
  public mutating func find(
    block: UInt16, page: UInt64, _ content: RawSpan, hash: UInt64, for sequence: UInt64,
    into target: UnsafeMutableRawBufferPointer
  ) -> Found? {
    if let place = duplicate(hash, for: sequence) { return .duplicate(place) }
    return unsafe delta(block: block, page: page, content, into: target) ? .delta : nil
  }

  /// Writes the page XOR what the destination has of it to `target`, when that is likely to be small.
  public func delta(
    block: UInt16, page: UInt64, _ content: RawSpan, into target: UnsafeMutableRawBufferPointer
  ) -> Bool {
    let number = bases[Int(block)] + Int(page)
    guard let words = unsafe pages.difference(number, content, into: target) else { return false }
    return words <= Self.deltaWordsMax
  }

  /// A page goes with this content, in frame `sequence`.
  ///
  /// - Parameter hash: nil: no duplicate is to name it.
  public mutating func sent(
    block: UInt16, page: UInt64, _ content: RawSpan, hash: UInt64?, sequence: UInt64
  ) {
    let number = bases[Int(block)] + Int(page)
    pages.sent(number, content)
    if let hash { directory?.sent(number, hash, sequence: sequence) }
  }

  /// Pages of a run go in a way that is not remembered: as zeros, or without anybody having looked at them.
  public mutating func forgetContents(_ run: PageRun) {
    guard pages.count > 0 else { return }
    for number in numbers(run) { pages.forget(number) }
  }
}
