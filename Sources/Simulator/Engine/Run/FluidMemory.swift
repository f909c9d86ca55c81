/// Memory as expected counts per group: a guest of 12 TiB costs no more than one of 1 GiB.
///
/// In a group every page is as likely to be written as any other, so what is known of a page (fresh, sent,
/// owed, its heat) says nothing about whether it will be written next. Then counts are enough: each epoch
/// moves the share 1 − e^(−writes per page) of every count. Heat is a count of epochs out of 8; which one
/// leaves the window is taken to be any, so a page of heat h loses one with probability h/8.
struct FluidMemory: SimulatedMemory {
  static let heats = 9

  let guest: GuestModel
  private var fresh: [Double]
  /// Sent, and never dirtied.
  private var untouched: [Double]
  /// Owed and clean pages that were dirtied at some time, by group and heat.
  private var owed: [Double]
  private var clean: [Double]
  /// Of a group's owed pages, those that were never sent.
  private var unsent: [Double]
  /// Writes per page since the last look.
  private var intensity: [Double]
  /// Share of each group that the look in progress found dirty.
  private var found: [Double]
  private var epochs = 0
  private(set) var sentPages = 0.0
  private(set) var supersededPages = 0.0
  private(set) var sentZeroPages = 0.0
  private(set) var sentBytes = 0.0
  /// What a page of each group takes of the link's time, in bytes.
  private let linkBytes: [Double]
  /// The same where the destination has an earlier version of it.
  private let resentLinkBytes: [Double]

  /// - Parameter bytesPerSecond: of the link, where processors may be slower; 0: they are not looked at.
  init(_ guest: GuestModel, bytesPerSecond: Double = 0) {
    self.guest = guest
    linkBytes = guest.groups.map { $0.linkBytes(at: bytesPerSecond) }
    resentLinkBytes = guest.groups.map { $0.resentLinkBytes(at: bytesPerSecond) }
    let none = [Double](repeating: 0, count: guest.groups.count)
    fresh = guest.groups.map(\.pages)
    (untouched, intensity, found, unsent) = (none, none, none, none)
    owed = [Double](repeating: 0, count: guest.groups.count * Self.heats)
    clean = owed
  }

  var freshPages: Double { fresh.reduce(0, +) }

  var owedByHeat: [Double] {
    var sums = [Double](repeating: 0, count: Self.heats)
    for index in owed.indices { sums[index % Self.heats] += owed[index] }
    return sums
  }

  var owedBytes: Double {
    var bytes = 0.0
    for group in guest.groups.indices {
      bytes += fresh[group] * linkBytes[group] + owedPages(group) * owedLinkBytes(group)
    }
    return bytes
  }

  var invalidByGroup: [Double] { guest.groups.indices.map { fresh[$0] + owedPages($0) } }

  private func owedPages(_ group: Int) -> Double {
    owed[group * Self.heats..<(group + 1) * Self.heats].reduce(0, +)
  }

  /// What a page that is owed takes of the link's time, on average over those sent before and those that weren't.
  private func owedLinkBytes(_ group: Int) -> Double {
    guard resentLinkBytes[group] != linkBytes[group] else { return linkBytes[group] }
    let pages = owedPages(group)
    guard pages > 0 else { return linkBytes[group] }
    let share = min(unsent[group] / pages, 1)
    return resentLinkBytes[group] + share * (linkBytes[group] - resentLinkBytes[group])
  }

  mutating func run(ms: Double, atMs: Double, speed: Double, noise: inout Noise) {
    for group in guest.groups.indices where guest.groups[group].writesPerSecond > 0 {
      intensity[group] += guest.writesPerPage(group, atMs: atMs) * ms / 1000 * speed
    }
  }

  mutating func beginCollect(noise: inout Noise) -> (dirtied: Double, first: Double) {
    var (dirtied, first) = (0.0, 0.0)
    for (group, model) in guest.groups.enumerated() {
      found[group] = 0
      guard model.pages > 0, intensity[group] > 0 else { continue }
      let expected =
        model.pattern == .sweep ? min(intensity[group], 1) : 1 - Mathematics.decay(intensity[group])
      // Pages are hit independently: the count's variance is N p (1 − p).
      let deviation = (expected * (1 - expected) / model.pages).squareRoot()
      found[group] = min(max(expected + deviation * noise.normal(), 0), 1)
      intensity[group] = 0
      dirtied += found[group] * model.pages
      // A sweep comes to those first that it has left alone the longest, fresh or sent.
      let never = fresh[group] + untouched[group]
      let swept = never > 0 ? min(found[group] * model.pages / never, 1) : 0
      first += fresh[group] * (model.pattern == .sweep ? swept : found[group])
    }
    return (dirtied, first)
  }

  mutating func finishCollect() -> Double {
    var newlyOwedPages = 0.0
    epochs += 1
    for group in guest.groups.indices {
      if epochs > 8 { cool(group) }
      guard found[group] > 0 else { continue }
      let base = group * Self.heats
      var shares = Shares(found[group], guest.groups[group])
      var newlyOwed = [Double](repeating: 0, count: Self.heats)
      let (fresh, untouched) = (self.fresh[group], self.untouched[group])
      let never = shares.next(fresh + untouched)
      supersededPages += fresh * never
      newlyOwedPages += untouched * never
      newlyOwed[1] += (fresh + untouched) * never
      unsent[group] += fresh * never
      self.fresh[group] -= fresh * never
      self.untouched[group] -= untouched * never
      for heat in 0..<Self.heats {
        let share = shares.next(owed[base + heat] + clean[base + heat])
        let (again, dirtied) = (owed[base + heat] * share, clean[base + heat] * share)
        supersededPages += again
        newlyOwedPages += dirtied
        owed[base + heat] -= again
        clean[base + heat] -= dirtied
        newlyOwed[min(heat + 1, Self.heats - 1)] += again + dirtied
      }
      for heat in 0..<Self.heats { owed[base + heat] += newlyOwed[heat] }
      found[group] = 0
    }
    return newlyOwedPages
  }

  /// Which share of the pages of each heat an epoch dirtied, from those never dirtied to the hottest.
  private struct Shares {
    private let even: Double?
    private var left: Double

    init(_ share: Double, _ group: PageGroup) {
      even = group.pattern == .scattered ? share : nil
      left = share * group.pages
    }

    /// Of `pages` pages. A sweep comes to those first that it has left alone the longest.
    mutating func next(_ pages: Double) -> Double {
      if let even { return even }
      guard pages > 0 else { return 0 }
      let taken = min(pages, left)
      left -= taken
      return taken / pages
    }
  }

  /// The oldest of 8 epochs leaves the window.
  private mutating func cool(_ group: Int) {
    let base = group * Self.heats
    for heat in 1..<Self.heats {
      let share = Double(heat) / 8
      let (a, b) = (owed[base + heat] * share, clean[base + heat] * share)
      owed[base + heat] -= a
      owed[base + heat - 1] += a
      clean[base + heat] -= b
      clean[base + heat - 1] += b
    }
  }

  mutating func send(
    bytes: Double, scanPermille: UInt64, holdFrom heat: UInt8, noise: inout Noise
  ) -> Double {
    let limit = min(Int(heat), Self.heats)
    var (scan, dirty) = (StreamLoad(), StreamLoad())
    for group in guest.groups.indices {
      let isZero = guest.groups[group].isZero
      scan.add(fresh[group], linkBytes[group], isZero: isZero)
      let cost = owedLinkBytes(group)
      for index in 0..<limit {
        dirty.add(owed[group * Self.heats + index], cost, isZero: isZero)
      }
    }
    let share = Self.scanShare(scanPermille, scan: scan, dirty: dirty)
    var forScan = min(scan.bytes, bytes * share)
    let forDirty = min(dirty.bytes, bytes - forScan)
    forScan = min(scan.bytes, bytes - forDirty)
    let (scanPart, dirtyPart) = (
      scan.bytes > 0 ? forScan / scan.bytes : 0, dirty.bytes > 0 ? forDirty / dirty.bytes : 0
    )
    for group in guest.groups.indices {
      let before = sentPages
      // What is left of a page is sent with its last byte.
      let scanned = scanPart > 0.999_999 ? fresh[group] : fresh[group] * scanPart
      fresh[group] -= scanned
      untouched[group] += scanned
      sentPages += scanned
      for index in group * Self.heats..<group * Self.heats + limit {
        let sent = dirtyPart > 0.999_999 ? owed[index] : owed[index] * dirtyPart
        owed[index] -= sent
        clean[index] += sent
        sentPages += sent
      }
      let sentOwed = max(sentPages - before - scanned, 0)
      let first = takeUnsent(group, of: sentOwed)
      sentBytes += (scanned + first) * guest.groups[group].wireBytes
      sentBytes += max(sentOwed - first, 0) * guest.groups[group].resentBytes
      if guest.groups[group].isZero { sentZeroPages += sentPages - before }
    }
    return forScan + forDirty
  }

  /// Owed pages were sent: how many of them for the first time. Which ones nobody knows: as many as among all that were owed.
  private mutating func takeUnsent(_ group: Int, of sent: Double) -> Double {
    guard unsent[group] > 0, sent > 0 else { return 0 }
    let left = owedPages(group)
    let first = unsent[group] * (sent / (left + sent))
    unsent[group] = min(unsent[group] - first, left)
    return first
  }

  func violation(isFinished: Bool) -> String? {
    for (group, model) in guest.groups.enumerated() {
      let range = group * Self.heats..<(group + 1) * Self.heats
      let sum =
        fresh[group] + untouched[group] + owed[range].reduce(0, +) + clean[range].reduce(0, +)
      if abs(sum - model.pages) > 1e-6 * model.pages + 0.01 {
        return "group \(group) has \(model.pages) pages, its ledger \(sum)"
      }
      if unsent[group] > owedPages(group) + 1e-6 * model.pages + 0.01 {
        return "group \(group) owes \(owedPages(group)) pages, \(unsent[group]) for the first time"
      }
      if min(fresh[group], untouched[group]) < -0.01 { return "group \(group) counts below zero" }
      if isFinished, fresh[group] + owedPages(group) + intensity[group] > 0.01 {
        return "group \(group) was not delivered"
      }
    }
    return nil
  }
}
