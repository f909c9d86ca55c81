public import Strategy

/// Setups drawn from seeds, to look for a guest, a link or a wish under which a strategy breaks a rule.
public enum RandomSetups {
  /// A guest of at most 2,048 pages, small enough to be followed page by page, on a link that carries it
  /// in a fraction of a second to 10 s.
  public static func small(seed: UInt64, strategy: StrategyName? = nil) -> SimulationSetup {
    var noise = Noise(seed: seed)
    let pages = 256 + noise.uniform() * 1792
    // A few pages in every tick: rates of less than that could not be measured.
    let pagesPerSecond = 200 + noise.uniform() * 800
    let passSeconds = pages / pagesPerSecond
    var groups: [PageGroup] = []
    var left = pages.rounded()
    for _ in 0..<(1 + Int(noise.uniform() * 3)) {
      let count = (left * noise.uniform() * 0.6).rounded(.up)
      left -= count
      groups.append(
        PageGroup(
          pages: count, writesPerSecond: pagesPerSecond * noise.uniform() * 3,
          pattern: noise.uniform() < 0.3 ? .sweep : .scattered))
    }
    groups.append(PageGroup(pages: left))
    var guest = GuestModel(groups: groups, vcpuCount: 1 + UInt64(noise.uniform() * 8))
    if noise.uniform() < 0.3 {
      guest = guest.withPhases(cycleMs: 1000 + noise.next() % 20_000, quiet: noise.uniform())
    }
    let names = StrategyName.allCases
    let drawn = names[Int(noise.next() % UInt64(names.count))]
    let constraints = constraints(&noise, passMs: passSeconds * 1000)
    let link = link(
      &noise, bytesPerSecond: pagesPerSecond * GuestModel.rawBytes,
      isTimed: constraints.withinMs != nil)
    var setup = SimulationSetup(strategy ?? drawn, guest, link, constraints)
    setup.canPull = noise.uniform() < 0.5
    setup.canLimitCPU = noise.uniform() < 0.7
    // The dirty log of so small a guest is read at once, as far as the link is concerned.
    setup.drainRate = setup.link.bytesPerSecond * (4 + noise.uniform() * 20)
    // Half of the seeds read the first pass at the link's pace, as agents do.
    if seed.isMultiple(of: 2) { setup.penBytes = 64 * 4096 }
    // What the guest does not write is zeros, and they cost the destination time. How much of it no strategy knows
    // before it begins, so nobody gives one.
    if constraints.withinMs == nil, noise.uniform() < 0.3 {
      setup.guest.groups[groups.count - 1].wireBytes = GuestModel.zeroBytes
      setup.zeroPagesPerSecond = pagesPerSecond * (0.5 + noise.uniform() * 20)
    }
    return setup
  }

  private static func link(
    _ noise: inout Noise, bytesPerSecond: Double, isTimed: Bool
  ) -> LinkModel {
    var link = LinkModel(
      bytesPerSecond: bytesPerSecond, latencyMs: noise.uniform() * noise.uniform() * 40,
      jitter: noise.uniform() * 0.1)
    // No strategy can foresee what others will take: who gives a time gets a link that keeps its rate.
    if !isTimed, noise.uniform() < 0.4 {
      link.competing = LinkModel.Competing(
        share: noise.uniform() * 0.3, onMs: 500 + noise.next() % 3000,
        offMs: 500 + noise.next() % 3000)
    }
    return link
  }

  private static func constraints(_ noise: inout Noise, passMs: Double) -> MigrationConstraints {
    let actions = DeadlineAction.allCases
    let forms = ThrottleForm.allCases
    return MigrationConstraints(
      withinMs: noise.uniform() < 0.5 ? nil : UInt64(passMs * (0.5 + noise.uniform() * 3)),
      downtimeLimitMs: 100 + noise.next() % 900,
      atDeadline: actions[Int(noise.next() % UInt64(actions.count))],
      maxThrottlePercent: noise.uniform() < 0.5 ? 0 : noise.next() % 100,
      throttleForm: forms[Int(noise.next() % UInt64(forms.count))])
  }
}
