import Base

/// The CPU limits that the user and the host allow. Pure.
struct Throttle: Sendable, Equatable {
  let facts: EngineFacts
  let maxPercent: UInt64

  init(_ constraints: MigrationConstraints, _ facts: EngineFacts) {
    self.facts = facts
    maxPercent = facts.canLimitCPU ? constraints.maxThrottlePercent : 0
  }

  var isAllowed: Bool { maxPercent > 0 }

  /// Cores that the guest's vCPUs can use at once without a limit.
  var coresFull: UInt64 { max(min(facts.vcpuCount, facts.hostCores), 1) }

  /// Fewest cores that leave the guest its due share, `1...coresFull`.
  var coresLeast: UInt64 {
    let due = coresFull.scaled(by: 100 - maxPercent, over: 100)
    let isExact = due.scaled(by: 100, over: 1) == coresFull.scaled(by: 100 - maxPercent, over: 1)
    return min(max(isExact ? due : due + 1, 1), coresFull)
  }

  /// Least share of a core per vCPU, in thousandths, at least 10.
  var quotaLeast: UInt64 { 1000 - maxPercent * 10 }

  /// The strictest limit: cores where they can express it, else a quota.
  var strictest: CPULimit {
    coresLeast < coresFull ? .cores(coresLeast) : .quota(permille: quotaLeast)
  }

  /// The limit at a share of the way from none to the strictest, `0...1000` thousandths, in steps of
  /// one core where that makes a difference.
  func step(permille: UInt64) -> CPULimit {
    guard isAllowed, permille > 0 else { return .none }
    guard coresLeast < coresFull else {
      return .quota(
        permille: 1000 - (1000 - quotaLeast).scaled(by: min(permille, 1000), over: 1000))
    }
    let steps = coresFull - coresLeast
    let taken = min((steps + 1).scaled(by: permille, over: 1000), steps)
    return taken == 0 ? .none : .cores(coresFull - taken)
  }
}
