import Strategy

extension GuestModel {
  /// A guest that writes as a trace says, over and over.
  ///
  /// The pages that were dirtied while they had heat k are a group of their own: a page that is hit in each
  /// epoch with probability k/8 has heat k on average, so the group has 8/k times as many pages as it
  /// dirties per epoch. How often it writes follows from each epoch's count. The first 8 epochs only teach
  /// the heat, where there are more.
  public init(replaying trace: DirtyTrace) {
    let epochs = trace.epochs.count >= 16 ? Array(trace.epochs[8...]) : trace.epochs
    var left = Double(trace.ramPages)
    var groups: [PageGroup] = []
    var rates: [[Double]] = []
    for heat in 1...8 {
      let counts = epochs.map { Double($0.dirtiedByHeat[heat - 1]) }
      let mean = counts.reduce(0, +) / Double(max(counts.count, 1))
      let pages = min(max(mean * 8 / Double(heat), counts.max() ?? 0), left)
      guard pages >= 1 else { continue }
      let perPage = zip(counts, epochs).map { count, epoch in
        -Mathematics.log(max(1 - count / pages, 0.001)) / Double(epoch.lengthMs) * 1000
      }
      let average = perPage.reduce(0, +) / Double(perPage.count)
      left -= pages
      groups.append(
        PageGroup(
          pages: pages, writesPerSecond: average * pages, wireBytes: Double(trace.pageBytes)))
      rates.append(perPage.map { average > 0 ? $0 / average : 0 })
    }
    let zero = min(Double(trace.zeroPages), left)
    if zero > 0 { groups.append(PageGroup(pages: zero, wireBytes: Self.zeroBytes)) }
    if left > zero {
      groups.append(PageGroup(pages: left - zero, wireBytes: Double(trace.pageBytes)))
    }
    let phases = epochs.indices.map { index in
      GuestPhase(lengthMs: epochs[index].lengthMs, factors: rates.map { $0[index] })
    }
    self.init(groups: groups, phases: phases, vcpuCount: trace.vcpuCount)
  }
}
