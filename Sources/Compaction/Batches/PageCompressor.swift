import Base
import CLZ4
import CZstd
import Wire

/// The compressors' working memory, kept from batch to batch; for one thread at a time.
@safe
final class PageCompressor {
  private let zstd: OpaquePointer?

  init() { unsafe zstd = ZSTD_createCCtx() }

  deinit { _ = unsafe ZSTD_freeCCtx(zstd) }

  /// Bytes that `compress` may need for `count` bytes.
  static func bound(_ count: Int) -> Int {
    max(ZSTD_compressBound(count), count + count / 128 + 64)
  }

  /// Compresses `source`; nil when it doesn't fit into `target` or the codec has nothing to say.
  func compress(
    _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer, _ effort: Effort
  ) -> Int? {
    // SAFETY: both buffers outlive the calls, which are bounded by the counts given with them.
    switch effort.codec {
    case .none: return nil
    case .lz4:
      let count = unsafe LZ4_compress_default(
        source.baseAddress, target.baseAddress, Int32(clamping: source.count),
        Int32(clamping: target.count))
      return count > 0 ? Int(count) : nil
    case .zstd:
      let count = unsafe ZSTD_compressCCtx(
        zstd, target.baseAddress, target.count, source.baseAddress, source.count, effort.level ?? 1)
      return ZSTD_isError(count) == 0 ? count : nil
    }
  }
}

/// The same for the way back. Input is hostile: never more than `target` holds is written, and working
/// memory does not depend on what the input says.
@safe
final class PageDecompressor {
  private let zstd: OpaquePointer?

  init() { unsafe zstd = ZSTD_createDCtx() }

  deinit { _ = unsafe ZSTD_freeDCtx(zstd) }

  /// Unpacks `source` into exactly the bytes of `target`.
  func decompress(
    _ source: UnsafeRawBufferPointer, _ codec: PageCodec,
    into target: UnsafeMutableRawBufferPointer
  ) throws(DecodeError) {
    let count: Int
    // SAFETY: both buffers outlive the calls, which are bounded by the counts given with them.
    switch codec {
    case .none: count = 0
    case .lz4:
      count = Int(
        unsafe LZ4_decompress_safe(
          source.baseAddress, target.baseAddress, Int32(clamping: source.count),
          Int32(clamping: target.count)))
    case .zstd:
      let found = unsafe ZSTD_decompressDCtx(
        zstd, target.baseAddress, target.count, source.baseAddress, source.count)
      count = ZSTD_isError(found) == 0 ? found : -1
    }
    guard count == target.count else {
      throw DecodeError(
        .badValue, in: "packed part of a batch", at: 0, found: UInt64(clamping: count),
        limit: UInt64(target.count))
    }
  }
}
