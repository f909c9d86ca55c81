/// IS: ten times over the ranks of keys that are about normally distributed; two keys change between the times.
/// The ranks of five keys are published; in the end all keys are put in order.
struct NASSort {
  static let iterations = 10

  let keyCount: Int
  /// Keys are below it.
  let keyLimit: Int
  /// Places of the five keys, and their ranks before any key was changed.
  let places, ranks: [Int]
  /// By how much the rank of key `index` differs in an iteration: keys that are put in at the low end move
  /// some up, those at the high end others down.
  let shift: @Sendable (_ index: Int, _ iteration: Int) -> Int

  init(_ size: NASClass) {
    switch size {
    case .s:
      (keyCount, keyLimit) = (1 << 16, 1 << 11)
      places = [48427, 17148, 23627, 62548, 4431]
      ranks = [0, 18, 346, 64917, 65463]
      shift = { $0 <= 2 ? $1 : -$1 }
    case .w:
      (keyCount, keyLimit) = (1 << 20, 1 << 16)
      places = [357_773, 934_767, 875_723, 898_999, 404_505]
      ranks = [1249, 11698, 1_039_987, 1_043_896, 1_048_018]
      shift = { $0 < 2 ? $1 - 2 : -$1 }
    case .a:
      (keyCount, keyLimit) = (1 << 23, 1 << 19)
      places = [2_112_377, 662_041, 5_336_171, 3_642_833, 4_250_760]
      ranks = [104, 17523, 123_928, 8_288_932, 8_388_264]
      shift = { $0 <= 2 ? $1 - 1 : -($1 - 1) }
    }
  }

  func run(progress: (Int) -> Void) -> NASVerdict {
    var keys = makeKeys(progress)
    var below: [Int32] = []
    for iteration in 1...Self.iterations {
      keys[iteration] = Int32(iteration)
      keys[iteration + Self.iterations] = Int32(keyLimit - iteration)
      below = countBelow(keys, progress)
      for (index, place) in places.enumerated() {
        let found = Int(below[Int(keys[place])])
        let expected = ranks[index] + shift(index, iteration)
        if found != expected {
          return NASVerdict(
            isVerified: false,
            text: "rank \(found) of key \(index) in iteration \(iteration), published \(expected)")
        }
      }
    }
    return order(keys, &below, progress)
  }

  /// A key is the mean of four uniform numbers.
  private func makeKeys(_ progress: (Int) -> Void) -> [Int32] {
    var random = NASRandom()
    var keys = [Int32](repeating: 0, count: keyCount)
    let quarter = Double(keyLimit / 4)
    for index in keys.indices {
      let sum = random.next() + random.next() + random.next() + random.next()
      keys[index] = Int32(quarter * sum)
      if index & 4095 == 4095 { progress(4096) }
    }
    return keys
  }

  /// For each key value, how many keys are smaller.
  private func countBelow(_ keys: [Int32], _ progress: (Int) -> Void) -> [Int32] {
    var counts = [Int32](repeating: 0, count: keyLimit + 1)
    for index in keys.indices {
      counts[Int(keys[index]) + 1] &+= 1
      if index & 4095 == 4095 { progress(4096) }
    }
    for value in 1...keyLimit { counts[value] &+= counts[value - 1] }
    return counts
  }

  /// Puts each key at its rank and looks whether they are in order.
  private func order(
    _ keys: [Int32], _ below: inout [Int32], _ progress: (Int) -> Void
  ) -> NASVerdict {
    var sorted = [Int32](repeating: -1, count: keyCount)
    for index in keys.indices {
      let key = Int(keys[index])
      let rank = Int(below[key])
      guard sorted.indices.contains(rank) else {
        return NASVerdict(isVerified: false, text: "rank \(rank) of \(keyCount) keys")
      }
      sorted[rank] = keys[index]
      below[key] += 1
      if index & 4095 == 4095 { progress(4096) }
    }
    var wrong = sorted.first == -1 ? 1 : 0
    for index in 1..<sorted.count where sorted[index] < sorted[index - 1] { wrong += 1 }
    return NASVerdict(isVerified: wrong == 0, text: "\(wrong) keys out of order")
  }
}
