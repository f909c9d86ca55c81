import Base

/// What a page looks like at a glance, before anything is spent on it.
enum PageTexture {
  /// Different bytes among the 256 looked at, from which on compressors gain nothing: 256 random bytes have
  /// 162 different ones on average, and one page of a hundred thousand has fewer than 140.
  static let randomBytesMin = 140

  /// The word that the whole page repeats, as it lies in memory; nil when there is none.
  static func uniformWord(_ page: RawSpan) -> UInt64? {
    precondition(page.byteCount >= 64 && page.byteCount & 63 == 0)
    // SAFETY: offsets stay below the count, which is a multiple of 64 by the precondition; any bit
    // pattern is a valid word.
    let word = unsafe page.unsafeLoadUnaligned(fromUncheckedByteOffset: 0, as: UInt64.self)
    let pattern = SIMD8<UInt64>(repeating: word)
    var offset = 0
    while offset < page.byteCount {
      let part = unsafe page.unsafeLoadUnaligned(
        fromUncheckedByteOffset: offset, as: SIMD8<UInt64>.self)
      if part != pattern { return nil }
      offset &+= 64
    }
    return word
  }

  /// Whether the bytes look drawn by lot (encrypted or compressed already), judged by 256 of them.
  static func looksRandom(_ page: RawSpan) -> Bool {
    precondition(page.byteCount >= 256)
    var seen = (UInt64(0), UInt64(0), UInt64(0), UInt64(0))
    // An odd stride takes bytes of every place within words.
    let step = (page.byteCount / 256 - 1) | 1
    var offset = 0
    for _ in 0..<256 {
      // SAFETY: 255 steps of at most count / 256 stay below the count; any byte is valid.
      let byte = unsafe page.unsafeLoad(fromUncheckedByteOffset: offset, as: UInt8.self)
      let bit: UInt64 = 1 << UInt64(byte & 63)
      switch byte >> 6 {
      case 0: seen.0 |= bit
      case 1: seen.1 |= bit
      case 2: seen.2 |= bit
      default: seen.3 |= bit
      }
      offset &+= step
    }
    let different =
      seen.0.nonzeroBitCount + seen.1.nonzeroBitCount + seen.2.nonzeroBitCount
      + seen.3.nonzeroBitCount
    return different >= randomBytesMin
  }
}
