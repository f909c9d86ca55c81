/// Divides a capacity max-min fairly: nobody gets more than it asks for while another wants more, and
/// what one leaves is shared equally by the others. Pure.
public enum MaxMinShares {
  /// Shares in the order of `demands`; their sum is at most `capacity`, short of it by rounding only.
  ///
  /// - Parameter demands: what each can use; nil: all that there is. What nobody asked for is divided
  ///   equally on top, so that each can grow.
  public static func divide(_ capacity: UInt64, among demands: [UInt64?]) -> [UInt64] {
    var shares = [UInt64](repeating: 0, count: demands.count)
    var (left, waiting) = (capacity, UInt64(demands.count))
    let modestFirst = demands.indices.sorted { demands[$0] ?? .max < demands[$1] ?? .max }
    for index in modestFirst {
      shares[index] = min(demands[index] ?? .max, left / waiting)
      left -= shares[index]
      waiting -= 1
    }
    guard !shares.isEmpty else { return shares }
    let extra = left / UInt64(shares.count)
    return shares.map { $0 + extra }
  }
}
