/// First in, first out; what was taken is let go of now and then. What stands last can be taken away, too.
struct PageQueue: Sendable {
  private var pages: [Int] = []
  private var head = 0

  mutating func append(_ page: Int) { pages.append(page) }

  mutating func next() -> Int? {
    guard head < pages.count else { return nil }
    defer {
      head += 1
      if head >= 64, head * 2 >= pages.count {
        pages.removeFirst(head)
        head = 0
      }
    }
    return pages[head]
  }

  var last: Int? { head < pages.count ? pages.last : nil }

  mutating func removeLast() { pages.removeLast() }
}
