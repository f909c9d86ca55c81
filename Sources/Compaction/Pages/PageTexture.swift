import Base

/// What a page looks like at a glance, before anything is spent on it.
enum PageTexture {
  /// Different bytes among the 256 looked at, from which on compressors gain nothing: 256 random bytes have
  /// 162 different ones on average, and one page of a hundred thousand has fewer than 140.
  static let randomBytesMin = 140
  /// Zero words among the 64 looked at, from which on a page gets smaller whatever the rest is: a sixteenth of
  /// it. Memory that is given out in classes of sizes (memcached's slabs) has such gaps behind random values.
  static let zeroWordsMin = 5

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

  /// Whether a compressor may find something: the bytes don't look drawn by lot, or there are gaps of zeros.
  static func looksPackable(_ page: RawSpan) -> Bool {
    !looksRandom(page) || zeroWords(page) >= zeroWordsMin
  }

  /// Zero words among 64 at equal distances.
  private static func zeroWords(_ page: RawSpan) -> Int {
    precondition(page.byteCount >= 512)
    let step = page.byteCount / 64
    var (count, offset) = (0, 0)
    for _ in 0..<64 {
      // SAFETY: 63 steps of at most count / 64 and a word of 8 bytes stay within the count, as a step is at
      // least 8 bytes by the precondition; any bit pattern is a valid word.
      let word = unsafe page.unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt64.self)
      count &+= word == 0 ? 1 : 0
      offset &+= step
    }
    return count
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
