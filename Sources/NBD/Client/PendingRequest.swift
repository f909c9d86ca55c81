import Base

/// What is known of a request that is not answered yet.
struct PendingRequest: Sendable, Hashable {
  let request: NBDRequest
  var hasChunks = false
  var hasFailed = false
  /// Contexts whose status was told.
  var told: [UInt32] = []
  /// Ranges of a read that came, sorted and apart from each other.
  private(set) var covered: [Range<UInt64>] = []

  init(_ request: NBDRequest) { self.request = request }

  /// Notes data; false when they aren't within the read or came already, or come in too many pieces.
  mutating func cover(_ offset: UInt64, _ count: UInt64) -> Bool {
    guard request.command == .read, count > 0, offset >= request.offset,
      count <= request.length, offset - request.offset <= request.length - count
    else { return false }
    let range = offset..<(offset + count)
    // Mostly pieces come in order.
    if let last = covered.indices.last, covered[last].upperBound == offset {
      covered[last] = covered[last].lowerBound..<range.upperBound
      return true
    }
    let place = covered.firstIndex { $0.lowerBound >= range.lowerBound } ?? covered.endIndex
    if place > 0, covered[place - 1].upperBound > range.lowerBound { return false }
    if place < covered.endIndex, covered[place].lowerBound < range.upperBound { return false }
    guard covered.count < NBDLimits.fragmentsMax else { return false }
    covered.insert(range, at: place)
    joinNeighbours(at: place)
    return true
  }

  private mutating func joinNeighbours(at place: Int) {
    if place + 1 < covered.count, covered[place].upperBound == covered[place + 1].lowerBound {
      covered[place] = covered[place].lowerBound..<covered[place + 1].upperBound
      covered.remove(at: place + 1)
    }
    if place > 0, covered[place - 1].upperBound == covered[place].lowerBound {
      covered[place - 1] = covered[place - 1].lowerBound..<covered[place].upperBound
      covered.remove(at: place)
    }
  }

  /// Whether the answer may end here.
  var isComplete: Bool {
    if hasFailed { return true }
    switch request.command {
    case .read: return covered == [request.offset..<(request.offset + request.length)]
    case .blockStatus: return !told.isEmpty
    default: return true
    }
  }
}
