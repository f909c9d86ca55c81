import Base
import Glibc

/// A page-aligned buffer for bulk bytes, reused for the whole migration.
@safe
public final class PageBuffer: @unchecked Sendable {
  // Unchecked: one owner at a time; buffers are handed over through a `Guarded` queue.
  /// Size, in bytes.
  public let byteCount: Int
  /// Of a huge page on x86-64.
  private static let hugeByteCount = 2 << 20
  public let base: UnsafeMutableRawPointer

  /// The content is whatever was there. Aligned to a page of 4 KiB; from 2 MiB on to one of 2 MiB,
  /// and a huge page is asked for; below 4 KiB to 64 bytes.
  public init(byteCount: Int) {
    self.byteCount = byteCount
    // A small one that took a page of memory would cost more than it counts for.
    let isLarge = byteCount >= Self.hugeByteCount
    let alignment = byteCount < Page.size ? 64 : isLarge ? Self.hugeByteCount : Page.size
    unsafe base = .allocate(byteCount: byteCount, alignment: alignment)
    // Touched for the first time page by page it would cost a fault for each. Only a wish: no harm if it fails.
    if isLarge { _ = unsafe madvise(base, byteCount, MADV_HUGEPAGE) }
  }

  deinit { unsafe base.deallocate() }

  /// The part `[offset, offset + count)`, for a system call.
  public func part(_ offset: Int, _ count: Int) -> UnsafeMutableRawBufferPointer {
    precondition(offset >= 0 && count >= 0 && offset <= byteCount - count)
    // SAFETY: in bounds by the precondition.
    return unsafe UnsafeMutableRawBufferPointer(start: base + offset, count: count)
  }

  /// Borrows the first `count` bytes.
  @_lifetime(borrow self)
  public func span(_ count: Int) -> RawSpan {
    precondition(count >= 0 && count <= byteCount)
    // SAFETY: in bounds by the precondition; self outlives the span.
    let span = unsafe RawSpan(_unsafeStart: base, byteCount: count)
    return unsafe _overrideLifetime(span, borrowing: self)
  }

  /// Copies `bytes` to `offset`.
  public func store(_ bytes: RawSpan, at offset: Int) {
    precondition(offset >= 0 && offset <= byteCount - bytes.byteCount)
    unsafe bytes.withUnsafeBytes { source in
      guard let start = source.baseAddress else { return }
      // SAFETY: in bounds by the precondition; the buffer is ours alone, so nothing overlaps.
      unsafe (base + offset).copyMemory(from: start, byteCount: source.count)
    }
  }
}

extension PageBuffer {
  /// Moves `[offset, offset + count)` to the start; the ranges may overlap.
  public func moveToFront(from offset: Int, count: Int) {
    // SAFETY: `part` checks the bounds; copyMemory is memmove.
    unsafe part(0, count).copyMemory(from: UnsafeRawBufferPointer(part(offset, count)))
  }
}
