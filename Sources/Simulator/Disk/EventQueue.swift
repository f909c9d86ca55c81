/// Events in the order of their times, and of their coming where times are the same.
struct EventQueue<Event> {
  private var heap: [(atUs: UInt64, number: UInt64, event: Event)] = []
  private var count: UInt64 = 0

  mutating func add(_ event: Event, atUs: UInt64) {
    heap.append((atUs, count, event))
    count += 1
    var child = heap.count - 1
    while child > 0, isBefore(child, (child - 1) / 2) {
      heap.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  mutating func next() -> (atUs: UInt64, event: Event)? {
    guard let first = heap.first, let last = heap.popLast() else { return nil }
    guard !heap.isEmpty else { return (first.atUs, first.event) }
    heap[0] = last
    var parent = 0
    while true {
      var least = parent
      for child in [2 * parent + 1, 2 * parent + 2]
      where child < heap.count && isBefore(child, least) {
        least = child
      }
      guard least != parent else { break }
      heap.swapAt(parent, least)
      parent = least
    }
    return (first.atUs, first.event)
  }

  private func isBefore(_ a: Int, _ b: Int) -> Bool {
    (heap[a].atUs, heap[a].number) < (heap[b].atUs, heap[b].number)
  }
}
