import Base
import Glibc

/// Which keys a client uses in its next operation.
struct KeyPicker {
  private let options: StoreClient.Options
  private let logCount: Double

  init(_ options: StoreClient.Options) {
    self.options = options
    logCount = log(Double(options.keysPerConnection) + 1)
  }

  /// `options.batch` keys, all different.
  func next(_ random: inout SplitMix64) -> [UInt64] {
    var keys: [UInt64] = []
    let wanted = min(UInt64(options.batch), options.keysPerConnection)
    while keys.count < wanted {
      let key = one(&random)
      if !keys.contains(key) { keys.append(key) }
    }
    return keys
  }

  private func one(_ random: inout SplitMix64) -> UInt64 {
    let count = max(options.keysPerConnection, 1)
    switch options.pattern {
    case .uniform: return random.next() % count
    case .zipf:
      // Log-uniform ranks are Zipf's law with exponent 1. The ranks are spread over the keys by a
      // prime, because keys that were stored one after the other lie side by side in memory.
      let unit = Double(random.next() >> 11) / 9_007_199_254_740_992
      let rank = min(UInt64(exp(unit * logCount)), count) - 1
      return rank &* 4_294_967_311 % count
    }
  }
}
