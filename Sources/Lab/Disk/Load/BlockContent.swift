/// What a block of a lab's disk holds: words that tell disk, block and version apart, none of them zero for long. Pure.
struct BlockContent {
  /// Of the disk.
  let seed: UInt64
  let wordCount: Int

  init(seed: UInt64, blockBytes: Int) { (self.seed, wordCount) = (seed, blockBytes / 8) }

  /// Fills `words` with version `version` of block `block`; `words` has `wordCount` of them.
  func fill(_ words: inout [UInt64], block: UInt64, version: UInt64) {
    var word = first(block, version)
    for index in words.indices {
      words[index] = word
      word &+= 0x9E37_79B9_7F4A_7C15
    }
  }

  /// Whether `words` are just that.
  func matches(_ words: [UInt64], block: UInt64, version: UInt64) -> Bool {
    var word = first(block, version)
    for found in words {
      guard found == word else { return false }
      word &+= 0x9E37_79B9_7F4A_7C15
    }
    return words.count == wordCount
  }

  /// Different for any two blocks and versions that a lab's disk can have: 2^32 of each.
  private func first(_ block: UInt64, _ version: UInt64) -> UInt64 {
    (block << 32 | version & 0xFFFF_FFFF) &* 0xD6E8_FEB8_6659_FD93 ^ seed
  }
}
