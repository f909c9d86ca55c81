import Base

/// What a page looks like at a glance, before anything is spent on it.
enum PageTexture {
  /// Different bytes among the 64 looked at, from which on compressors gain nothing: 64 random bytes have 57
  /// different ones on average, and one page of a hundred thousand has fewer than 47.
  private static let randomBytesMin = 47
  /// Zero words among the 64 looked at, from which on a page gets smaller whatever the rest is: a sixteenth of
  /// it. Memory that is given out in classes of sizes (memcached's slabs) has such gaps behind random values.
  private static let zeroWordsMin = 5

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

  /// Whether a compressor may find something: the bytes don't look drawn by lot (encrypted or compressed
  /// already), or there are gaps of zeros.
  ///
  /// Judged by 64 words at equal distances and a byte of each, without a branch: on random bytes every branch
  /// would be a wrong guess.
  static func looksPackable(_ page: RawSpan) -> Bool {
    precondition(page.byteCount >= 512)
    let step = page.byteCount / 64
    var seen = (UInt64(0), UInt64(0), UInt64(0), UInt64(0))
    var (zeroWords, offset) = (0, 0)
    for number in 0..<64 as Range<UInt64> {
      // SAFETY: 63 steps of at most count / 64 and a word of 8 bytes stay within the count, as a step is at
      // least 8 bytes by the precondition; any bit pattern is a valid word.
      let word = unsafe page.unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt64.self)
      zeroWords &+= word == 0 ? 1 : 0
      // Bytes of every place within words.
      let byte = word &>> (number & 7 &* 8) & 0xFF
      let (bit, quarter) = (UInt64(1) &<< (byte & 63), byte &>> 6)
      seen.0 |= quarter == 0 ? bit : 0
      seen.1 |= quarter == 1 ? bit : 0
      seen.2 |= quarter == 2 ? bit : 0
      seen.3 |= quarter == 3 ? bit : 0
      offset &+= step
    }
    let different =
      seen.0.nonzeroBitCount + seen.1.nonzeroBitCount + seen.2.nonzeroBitCount
      + seen.3.nonzeroBitCount
    return different < randomBytesMin || zeroWords >= zeroWordsMin
  }
}
