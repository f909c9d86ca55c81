import Base

/// Memory page by page, each with the version that the guest wrote last and the one that the destination
/// has: small guests only. What `FluidMemory` takes on trust is checked here: at the end every page's last
/// version must have arrived, and none that is older than what was there.
struct ExactMemory: SimulatedMemory {
  let guest: GuestModel
  private let groupOf: [Int]
  /// Pages of each group, anywhere in RAM.
  private let pagesOf: [[Int]]
  private var version: [UInt32]
  private var delivered: [UInt32]
  private var isFresh: [Bool]
  private var isOwed: [Bool]
  /// Bit 0: dirtied in the last epoch; bit 7: eight epochs ago.
  private var history: [UInt8]
  private var isDirty: [Bool]
  private var found: [Int] = []
  private var sweepAt: [Int]
  private var rest: [Double]
  /// Where the scan is, and where the other stream looks for dirty pages next.
  private var scanAt = 0
  private var cursor = 0
  private var credit = 0.0
  /// Kept beside the pages, so that a look costs nothing.
  private var freshCount: Int
  private var owedCounts = [Int](repeating: 0, count: 9)
  private(set) var sentPages = 0.0
  private(set) var supersededPages = 0.0
  private(set) var sentZeroPages = 0.0
  private(set) var sentBytes = 0.0
  private let bytesPerSecond: Double
  private var wentBack = false

  /// - Parameter bytesPerSecond: of the link, where processors may be slower; 0: they are not looked at.
  init(_ guest: GuestModel, bytesPerSecond: Double = 0) {
    (self.guest, self.bytesPerSecond) = (guest, bytesPerSecond)
    var groups: [Int] = []
    for (index, group) in guest.groups.enumerated() {
      groups += Array(repeating: index, count: Int(group.pages))
    }
    var random = SplitMix64(seed: UInt64(groups.count))
    groups.shuffle(using: &random)
    groupOf = groups
    pagesOf = guest.groups.indices.map { group in groups.indices.filter { groups[$0] == group } }
    freshCount = groups.count
    version = Array(repeating: 1, count: groups.count)
    delivered = Array(repeating: 0, count: groups.count)
    isFresh = Array(repeating: true, count: groups.count)
    isOwed = Array(repeating: false, count: groups.count)
    isDirty = Array(repeating: false, count: groups.count)
    history = Array(repeating: 0, count: groups.count)
    sweepAt = Array(repeating: 0, count: guest.groups.count)
    rest = Array(repeating: 0, count: guest.groups.count)
  }

  var freshPages: Double { Double(freshCount) }
  var owedByHeat: [Double] { owedCounts.map { Double($0) } }

  var owedBytes: Double {
    version.indices.reduce(0) { isFresh[$1] || isOwed[$1] ? $0 + linkBytes($1) : $0 }
  }

  var invalidByGroup: [Double] {
    var sums = [Double](repeating: 0, count: guest.groups.count)
    for page in version.indices where isFresh[page] || isOwed[page] { sums[groupOf[page]] += 1 }
    return sums
  }

  /// Whether the destination has a version of it.
  private func wasSent(_ page: Int) -> Bool { delivered[page] > 0 }

  private func linkBytes(_ page: Int) -> Double {
    let group = guest.groups[groupOf[page]]
    return wasSent(page)
      ? group.resentLinkBytes(at: bytesPerSecond) : group.linkBytes(at: bytesPerSecond)
  }

  mutating func run(ms: Double, atMs: Double, speed: Double, noise: inout Noise) {
    for (index, group) in guest.groups.enumerated() where group.pages >= 1 {
      let count = pagesOf[index].count
      rest[index] += guest.writesPerPage(index, atMs: atMs) * Double(count) * ms / 1000 * speed
      while rest[index] >= 1 {
        rest[index] -= 1
        let place: Int
        if group.pattern == .sweep {
          place = sweepAt[index]
          sweepAt[index] = (place + 1) % count
        } else {
          place = min(Int(noise.uniform() * Double(count)), count - 1)
        }
        version[pagesOf[index][place]] &+= 1
        isDirty[pagesOf[index][place]] = true
      }
    }
  }

  mutating func beginCollect(noise: inout Noise) -> (dirtied: Double, first: Double) {
    found = isDirty.indices.filter { isDirty[$0] }
    for page in found { isDirty[page] = false }
    let first = found.count { isFresh[$0] }
    return (Double(found.count), Double(first))
  }

  mutating func finishCollect() -> Double {
    var newlyOwed = 0
    for page in history.indices { history[page] <<= 1 }
    for page in found {
      if isFresh[page] || isOwed[page] { supersededPages += 1 } else { newlyOwed += 1 }
      (isFresh[page], isOwed[page]) = (false, true)
      history[page] |= 1
    }
    found = []
    freshCount = isFresh.count { $0 }
    owedCounts = Array(repeating: 0, count: 9)
    for page in isOwed.indices where isOwed[page] { owedCounts[history[page].nonzeroBitCount] += 1 }
    return Double(newlyOwed)
  }

  mutating func send(
    bytes: Double, scanPermille: UInt64, holdFrom heat: UInt8, noise: inout Noise
  ) -> Double {
    let budget = bytes + credit
    var left = budget
    // First each within its share, then either with what the other left.
    let forScan = budget * scanShare(scanPermille, holdFrom: heat)
    left -= scan(bytes: forScan)
    left -= sendDirty(bytes: left, holdFrom: heat)
    left -= scan(bytes: left)
    // Part of a page: kept for the next tick, unless there is nothing to send.
    let costs = guest.groups.flatMap {
      [$0.linkBytes(at: bytesPerSecond), $0.resentLinkBytes(at: bytesPerSecond)]
    }
    let largestBytes = max(costs.max() ?? 0, GuestModel.rawBytes)
    credit = freshCount > 0 || owedCounts.contains { $0 > 0 } ? min(left, largestBytes) : 0
    return budget - left
  }

  private func scanShare(_ permille: UInt64, holdFrom heat: UInt8) -> Double {
    var (scan, dirty) = (StreamLoad(), StreamLoad())
    for page in version.indices {
      let isZero = guest.groups[groupOf[page]].isZero
      if isFresh[page] {
        scan.add(1, linkBytes(page), isZero: isZero)
      } else if isOwed[page], history[page].nonzeroBitCount < Int(heat) {
        dirty.add(1, linkBytes(page), isZero: isZero)
      }
    }
    return Self.scanShare(permille, scan: scan, dirty: dirty)
  }

  private mutating func scan(bytes: Double) -> Double {
    var used = 0.0
    while scanAt < version.count {
      if isFresh[scanAt] {
        guard used + linkBytes(scanAt) <= bytes else { break }
        used += linkBytes(scanAt)
        deliver(scanAt)
      }
      scanAt += 1
    }
    return used
  }

  private mutating func sendDirty(bytes: Double, holdFrom heat: UInt8) -> Double {
    var used = 0.0
    var left = owedCounts.prefix(Int(heat)).reduce(0, +)
    for _ in version.indices where left > 0 {
      if isOwed[cursor], history[cursor].nonzeroBitCount < Int(heat) {
        guard used + linkBytes(cursor) <= bytes else { break }
        used += linkBytes(cursor)
        left -= 1
        deliver(cursor)
      }
      cursor = (cursor + 1) % version.count
    }
    return used
  }

  private mutating func deliver(_ page: Int) {
    if isFresh[page] { freshCount -= 1 }
    if isOwed[page] { owedCounts[history[page].nonzeroBitCount] -= 1 }
    (isFresh[page], isOwed[page]) = (false, false)
    if delivered[page] > version[page] { wentBack = true }
    let group = guest.groups[groupOf[page]]
    sentBytes += wasSent(page) ? group.resentBytes : group.wireBytes
    delivered[page] = version[page]
    sentPages += 1
    if group.isZero { sentZeroPages += 1 }
  }

  func violation(isFinished: Bool) -> String? {
    if wentBack { return "a page was replaced by an older one" }
    guard isFinished else { return nil }
    let stale = version.indices.count { delivered[$0] != version[$0] }
    return stale == 0 ? nil : "\(stale) pages are not what they were when the guest stopped"
  }
}
