/// One page that knows who it is.
///
/// ```
/// 0   index       which page of the workload this is
/// 8   generation  how often it was written
/// 16  checksum    over index, generation and payload
/// 24  payload     509 words: first the compressible ones, then random ones
/// ```
/// The checksum is a sum of position-dependent mixes, so that a write of a few words updates it
/// without reading the rest.
@safe struct Page {
  static let size = 4096
  static let wordCount = size / 8
  static let payloadBytes = size - 24
  static let payloadWords = payloadBytes / 8

  enum Fault: String {
    /// Another page's content stands here.
    case misplaced
    /// Header and payload are of different writes.
    case torn
    /// An older version: a write was lost.
    case lost
    /// Newer than the table says: the table itself lost a write.
    case ahead
  }

  private let words: UnsafeMutablePointer<UInt64>

  /// `words` points at `wordCount` words that nobody else touches.
  init(_ words: UnsafeMutablePointer<UInt64>) { unsafe self.words = words }

  /// Word `position` of the page, `0..<wordCount`; the header is 0 to 2.
  @inline(__always)
  subscript(_ position: Int) -> UInt64 {
    // SAFETY: every caller's position is a constant, a loop bound or a remainder below wordCount.
    get { unsafe words[position] }
    nonmutating set { unsafe words[position] = newValue }
  }

  @inline(__always)
  static func mix(_ word: UInt64, at position: Int) -> UInt64 {
    let keyed = word ^ (UInt64(truncatingIfNeeded: position) &* 0x9E37_79B9_7F4A_7C15)
    return (keyed ^ (keyed >> 29)) &* 0xBF58_476D_1CE4_E5B9
  }

  /// The content of payload word `position` at `generation`.
  @inline(__always)
  static func word(
    index: UInt64, generation: UInt64, position: Int, compressibleWords: Int, seed: UInt64
  ) -> UInt64 {
    if position < compressibleWords { return (index & 0xFF) &* 0x0101_0101_0101_0101 }
    return mix(
      index &* 0xD6E8_FEB8_6659_FD93 ^ generation ^ seed, at: position &+ 1000)
  }

  /// Writes the whole page.
  func write(index: UInt64, generation: UInt64, compressibleWords: Int, seed: UInt64) {
    var sum = Self.mix(index, at: 0) &+ Self.mix(generation, at: 1)
    for position in 3..<Self.wordCount {
      let word = Self.word(
        index: index, generation: generation, position: position &- 3,
        compressibleWords: compressibleWords, seed: seed)
      self[position] = word
      sum = sum &+ Self.mix(word, at: position)
    }
    (self[0], self[1], self[2]) = (index, generation, sum)
  }

  /// Changes `count` payload words from payload word `first` on (wrapping around) and the header.
  func change(to generation: UInt64, first: Int, count: Int, seed: UInt64) {
    let index = self[0]
    var sum = self[2] &- Self.mix(self[1], at: 1) &+ Self.mix(generation, at: 1)
    for step in 0..<count {
      let position = (first &+ step) % Self.payloadWords &+ 3
      let word = Self.mix(index ^ generation &* 0xD6E8_FEB8_6659_FD93 ^ seed, at: position)
      sum = sum &- Self.mix(self[position], at: position) &+ Self.mix(word, at: position)
      self[position] = word
    }
    self[1] = generation
    self[2] = sum
  }

  /// Nil when the page is what the table says.
  func check(index: UInt64, generation: UInt64) -> Fault? {
    guard self[0] == index else { return .misplaced }
    var sum = Self.mix(self[0], at: 0) &+ Self.mix(self[1], at: 1)
    for position in 3..<Self.wordCount { sum = sum &+ Self.mix(self[position], at: position) }
    guard sum == self[2] else { return .torn }
    guard self[1] == generation else { return self[1] < generation ? .lost : .ahead }
    return nil
  }
}
