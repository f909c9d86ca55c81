import Base
import Foundation

/// Content for a disk's image in which no two blocks are alike. Tests are not optimized, so a suite makes it once.
///
/// - Parameter byteCount: a multiple of 8.
func randomImage(byteCount: Int, seed: UInt64) -> Data {
  var random = SplitMix64(seed: seed)
  var words = [UInt64](repeating: 0, count: byteCount / 8)
  words.withUnsafeMutableBufferPointer { words in
    for index in 0..<words.count { words[index] = random.next() }
  }
  return words.withUnsafeBytes { Data($0) }
}
