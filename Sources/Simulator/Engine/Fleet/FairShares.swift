/// Max-min fair rates of flows over several links each: nobody can get more without another, who has no
/// more, getting less. By progressive filling: the most crowded link sets the rate of its flows, then the
/// next, with a queue of links by what each would give.
struct FairShares {
  let capacities: [Double]

  /// - Parameters:
  ///   - paths: for each flow the links it crosses, as indices of `capacities`; one at least.
  ///   - limits: what each flow could use at most.
  func divide(paths: [[Int]], limits: [Double]) -> [Double] {
    var rates = [Double](repeating: 0, count: paths.count)
    var left = capacities
    var flowsOf = [[Int]](repeating: [], count: capacities.count)
    for (flow, path) in paths.enumerated() { for link in path { flowsOf[link].append(flow) } }
    var waiting = flowsOf.map(\.count)
    var isSet = [Bool](repeating: false, count: paths.count)
    var queue = LeastFirst(
      capacities.indices.filter { waiting[$0] > 0 }.map { (left[$0] / Double(waiting[$0]), $0) })
    let modestFirst = paths.indices.sorted { limits[$0] < limits[$1] }
    var modest = 0

    func settle(_ flow: Int, _ rate: Double) {
      isSet[flow] = true
      rates[flow] = rate
      for link in paths[flow] {
        left[link] = max(left[link] - rate, 0)
        waiting[link] -= 1
      }
    }
    while let (share, link) = queue.popLeast() {
      guard waiting[link] > 0 else { continue }
      let present = left[link] / Double(waiting[link])
      // Flows that were settled since made room: shares only ever rise.
      if present > share * (1 + 1e-12) {
        queue.push((present, link))
        continue
      }
      while modest < modestFirst.count, isSet[modestFirst[modest]] { modest += 1 }
      if modest < modestFirst.count, limits[modestFirst[modest]] <= present {
        settle(modestFirst[modest], max(limits[modestFirst[modest]], 0))
        queue.push((waiting[link] > 0 ? left[link] / Double(waiting[link]) : 0, link))
        continue
      }
      for flow in flowsOf[link] where !isSet[flow] { settle(flow, present) }
    }
    return rates
  }
}

/// A queue that gives its least element first: a binary heap.
private struct LeastFirst {
  private var heap: [(share: Double, link: Int)] = []

  init(_ elements: [(Double, Int)]) { for element in elements { push(element) } }

  mutating func push(_ element: (Double, Int)) {
    heap.append(element)
    var child = heap.count - 1
    while child > 0, heap[child].share < heap[(child - 1) / 2].share {
      heap.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  mutating func popLeast() -> (Double, Int)? {
    guard let least = heap.first, let last = heap.popLast() else { return nil }
    guard !heap.isEmpty else { return least }
    heap[0] = last
    var parent = 0
    while true {
      let children = (parent * 2 + 1..<parent * 2 + 3).filter { $0 < heap.count }
      guard let smaller = children.min(by: { heap[$0].share < heap[$1].share }),
        heap[smaller].share < heap[parent].share
      else { return least }
      heap.swapAt(parent, smaller)
      parent = smaller
    }
  }
}
