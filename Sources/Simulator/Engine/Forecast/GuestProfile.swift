/// What was found out about a guest before it is moved.
public struct GuestProfile: Sendable, Equatable {
  /// Distinct pages that the guest dirtied within a window, measured once or averaged.
  public struct Point: Sendable, Equatable {
    public var windowMs, pages: UInt64

    public init(windowMs: UInt64, pages: UInt64) { (self.windowMs, self.pages) = (windowMs, pages) }
  }

  public var ramPages: UInt64
  /// Share of RAM that is zero, in thousandths, and what any other page costs on the wire, in bytes.
  public var zeroPermille: UInt64
  public var pageBytes: Double
  /// Pages that the destination has at the same place, and pages that it has elsewhere and that are named to it: what of
  /// them the guest does not write goes as references.
  public var heldPages: UInt64 = 0
  public var namedPages: UInt64 = 0
  /// How long the processors of the slower host take for a page that is sent, and for one that the destination has, in
  /// microseconds.
  public var pageUs = 0.0
  public var knownUs = 0.0
  /// What pages cost that the guest writes, where they are not like others: sent for the first time, and after an earlier
  /// version of them. `pageBytes` stays the mean over all.
  public var written: PagePrice?
  public var resent: PagePrice?
  public var vcpuCount: UInt64
  /// By rising window; a longer window has at least as many pages.
  public var dirtyCurve: [Point]
  /// How far the guest's writes may be from what was measured, relative.
  public var spread = 0.1
  /// How they differ from time to time; nil: they don't.
  public var writePhases: WritePhases?

  public init(
    ramPages: UInt64, zeroPermille: UInt64 = 0, pageBytes: Double = GuestModel.rawBytes,
    vcpuCount: UInt64 = 1, dirtyCurve: [Point]
  ) {
    (self.ramPages, self.zeroPermille) = (ramPages, min(zeroPermille, 1000))
    (self.pageBytes, self.vcpuCount, self.dirtyCurve) = (pageBytes, vcpuCount, dirtyCurve)
  }

  /// A guest whose dirty curve is the one measured: groups of pages with rates on a fixed grid, their
  /// sizes fitted by least squares of relative errors, none below zero.
  ///
  /// Beyond the longest window nothing was measured. There the slowest group goes on as it did within.
  public var model: GuestModel {
    let curve = dirtyCurve.filter { $0.windowMs > 0 }
    guard let shortest = curve.map(\.windowMs).min(), let longest = curve.map(\.windowMs).max(),
      curve.contains(where: { $0.pages > 0 })
    else { return guest([]) }
    let rates = Self.rates(fromMs: Double(shortest), toMs: Double(longest))
    let sizes = Self.fit(curve, rates)
    return guest(
      zip(rates, sizes).filter { $0.1 >= 0.5 }.map {
        PageGroup(pages: $0.1, writesPerSecond: $0.0 * $0.1)
      })
  }

  private func guest(_ groups: [PageGroup]) -> GuestModel {
    // What the curve adds up to can't be more than RAM.
    let sum = groups.reduce(0) { $0 + $1.pages }
    let scale = min(Double(ramPages) / max(sum, 1), 1)
    var groups = groups
    let price = written ?? PagePrice(bytes: pageBytes, us: pageUs)
    for index in groups.indices {
      groups[index].pages *= scale
      groups[index].writesPerSecond *= scale
      (groups[index].wireBytes, groups[index].processorUs) = (price.bytes, price.us)
      groups[index].resent = resent
    }
    let busy = groups.reduce(0) { $0 + $1.pages }
    var left = Double(ramPages) - busy
    let zero = min(Double(ramPages) * Double(zeroPermille) / 1000, left)
    left -= zero
    if zero > 0 { groups.append(PageGroup(pages: zero, wireBytes: GuestModel.zeroBytes)) }
    for (pages, bytes) in [
      (heldPages, GuestModel.heldBytes), (namedPages, GuestModel.namedBytes),
    ] {
      let known = min(Double(pages), left)
      left -= known
      if known > 0 {
        groups.append(PageGroup(pages: known, wireBytes: bytes, processorUs: knownUs))
      }
    }
    if left > 0.5 {
      groups.append(
        PageGroup(pages: left, wireBytes: restBytes(left, beside: busy), processorUs: pageUs))
    }
    return GuestModel(groups: groups, vcpuCount: vcpuCount)
  }

  /// What a page costs that the guest leaves alone: with those that it writes the mean over all that was measured.
  private func restBytes(_ pages: Double, beside busy: Double) -> Double {
    guard let written else { return pageBytes }
    let rest = (pageBytes * (pages + busy) - written.bytes * busy) / pages
    return min(max(rest, GuestModel.namedBytes), max(pageBytes, GuestModel.rawBytes))
  }

  /// Writes per page and second, from one in two of the longest windows to four in the shortest.
  private static func rates(fromMs shortest: Double, toMs longest: Double) -> [Double] {
    let (slow, fast) = (0.5 / longest * 1000, 4 / shortest * 1000)
    let count = 12
    return (0..<count).map {
      slow * Mathematics.power(fast / slow, Double($0) / Double(count - 1))
    }
  }

  /// Sizes of groups by coordinate descent: each in turn takes the best value with the others fixed.
  private static func fit(_ curve: [Point], _ rates: [Double]) -> [Double] {
    let targets = curve.map { max(Double($0.pages), 1) }
    let rows = curve.map { point in
      rates.map { 1 - Mathematics.decay($0 * Double(point.windowMs) / 1000) }
    }
    var sizes = [Double](repeating: 0, count: rates.count)
    var residuals = targets
    for _ in 0..<400 {
      for group in rates.indices {
        var (above, below) = (0.0, 0.0)
        for row in rows.indices {
          let weight = 1 / (targets[row] * targets[row])
          above += rows[row][group] * residuals[row] * weight
          below += rows[row][group] * rows[row][group] * weight
        }
        let change = max(sizes[group] + above / below, 0) - sizes[group]
        sizes[group] += change
        for row in rows.indices { residuals[row] -= rows[row][group] * change }
      }
    }
    return sizes
  }
}
