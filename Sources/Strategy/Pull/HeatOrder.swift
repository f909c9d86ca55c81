import Base

/// Pages of a pull that the guest has written most of late, as the source says: they are asked for before others, for
/// it will soon want them again. Pure.
///
/// Memory: one bit per page and class, and one more, once the source has said anything.
struct HeatOrder: Sendable {
  /// Least heat of each class (`HeatHistory`, `0...8`), the hottest first. What is colder has no place here.
  static let classes: [UInt8] = [4, 1]

  private struct Class: Sendable {
    var pages: PageBitmap
    /// Where it is looked on.
    var next = 0
    /// Nothing of it was wanted at the last look, and nothing has come to be since.
    var isIdle = false
  }

  private let count: Int
  private var classes: [Class] = []
  /// Pages of any class.
  private var hot = PageBitmap(count: 0)

  /// - Parameter count: page numbers there are.
  init(count: Int) { self.count = count }

  var isEmpty: Bool { classes.isEmpty }

  /// The source says how hot pages are.
  mutating func add(_ pages: Range<Int>, heat: UInt8) {
    guard let index = Self.classes.firstIndex(where: { heat >= $0 }) else { return }
    if classes.isEmpty {
      classes = Self.classes.map { _ in Class(pages: PageBitmap(count: count)) }
      hot = PageBitmap(count: count)
    }
    for page in pages {
      _ = classes[index].pages.insert(page)
      _ = hot.insert(page)
    }
    classes[index].isIdle = false
  }

  /// Pages have come to be wanted.
  mutating func wake() {
    for index in classes.indices { classes[index].isIdle = false }
  }

  /// The next wanted pages of the hottest class that has some; consecutive, and so of one block. Those that follow come
  /// along if they are hot at all: neighbours are seldom of one class, and many small requests cost more than the order
  /// between classes is worth.
  ///
  /// - Parameter limit: most pages at once, at least 1.
  mutating func next(of wanted: PageBitmap, limit: Int) -> Range<Int>? {
    for index in classes.indices where !classes[index].isIdle {
      let start = classes[index].next
      let pages = classes[index].pages
      guard
        let first = pages.first(atOrAfter: start, in: wanted)
          ?? pages.first(atOrAfter: 0, in: wanted)
      else {
        classes[index].isIdle = true
        continue
      }
      var end = first + 1
      while end - first < limit, end < count, hot[end], wanted[end] { end += 1 }
      classes[index].next = end
      return first..<end
    }
    return nil
  }
}

extension PageBitmap {
  /// The first page at or after `page` that is in both. Costs O(words of this one that have any).
  fileprivate func first(atOrAfter page: Int, in other: PageBitmap) -> Int? {
    guard page < count else { return nil }
    var next = firstWord(atOrAfter: page >> 6)
    while let index = next {
      var both = word(index) & other.word(index)
      if index == page >> 6 { both &= UInt64.max << UInt64(page & 63) }
      if both != 0 { return index << 6 + both.trailingZeroBitCount }
      next = firstWord(atOrAfter: index + 1)
    }
    return nil
  }
}
