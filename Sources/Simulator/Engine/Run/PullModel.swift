/// The guest runs at the destination and its missing pages follow: on demand, and in advance over the rest of
/// the link, those first that it touches most.
///
/// A page of a group is touched as often as it is written, and `readsPerWrite` times more. A touch of a page
/// that is missing holds one vCPU up for a round trip and the time of one page.
struct PullModel: Sendable, Equatable {
  /// What a fault costs beside the network, in milliseconds: userfaultfd, the agents, QEMU.
  static let faultMs = 0.3

  private var missing: [Double]
  private let touchesPerPage: [Double]
  /// Groups by how often a page of theirs is touched, the busiest first.
  private let order: [Int]
  private let wireBytes: [Double]
  /// The same as time on the link, see `PageGroup.linkBytes`.
  private let linkBytes: [Double]
  private let vcpus: Double
  private let faultMs: Double
  private(set) var sentBytes = 0.0
  private(set) var faults = 0.0
  /// Of the last step, what was left when the last page had come.
  private(set) var unusedMs = 0.0

  init(_ missing: [Double], _ setup: SimulationSetup) {
    self.missing = missing
    wireBytes = setup.guest.groups.map(\.wireBytes)
    linkBytes = setup.guest.groups.map { $0.linkBytes(at: setup.link.goodput) }
    let touches = setup.guest.groups.map {
      $0.writesPerSecond / max($0.pages, 1) * (1 + setup.guest.readsPerWrite)
    }
    order = touches.indices.sorted { touches[$0] > touches[$1] }
    touchesPerPage = touches
    vcpus = Double(setup.guest.vcpuCount)
    faultMs = Self.faultMs + 2 * setup.link.latencyMs
  }

  /// As time on the link.
  private var missingBytes: Double { zip(missing, linkBytes).reduce(0) { $0 + $1.0 * $1.1 } }

  var isDone: Bool { missingBytes < 1 }

  /// Moves on; gives the guest's working time that was lost, in milliseconds.
  mutating func step(ms: Double, bytesPerSecond: Double) -> Double {
    let left = missingBytes
    guard left >= 1 else { return 0 }
    var lost = 0.0
    // Finer than the caller's ticks: the first milliseconds have most of the faults.
    let parts = 10
    for part in 0..<parts {
      let partMs = ms / Double(parts)
      let touches = zip(missing, touchesPerPage).reduce(0) { $0 + $1.0 * $1.1 } / 1000
      // Faults per millisecond at full speed hold each vCPU up for their share of the time.
      let stall = touches * faultMs / vcpus
      let speed = 1 / (1 + stall)
      let count = min(touches * speed * partMs, missing.reduce(0, +))
      let budget = bytesPerSecond * partMs / 1000
      if budget <= 0 {
        lost += partMs
        continue
      }
      faults += count
      lost += (1 - speed) * partMs
      let used = take(faults: count, touches: touches, budget: budget)
      if isDone {
        unusedMs = partMs * (1 - min(used / budget, 1)) + partMs * Double(parts - part - 1)
        break
      }
    }
    return lost
  }

  /// Takes what was asked for and then group after group; gives the bytes used.
  private mutating func take(faults: Double, touches: Double, budget: Double) -> Double {
    var left = budget
    if touches > 0 {
      for group in missing.indices {
        let share = missing[group] * touchesPerPage[group] / 1000 / touches
        let pages = min(faults * share, missing[group], left / linkBytes[group])
        missing[group] -= pages
        left -= pages * linkBytes[group]
        sentBytes += pages * wireBytes[group]
      }
    }
    for group in order where left > 0 {
      let rest = missing[group] * linkBytes[group]
      let part = rest > 0 ? min(left / rest, 1) : 0
      sentBytes += missing[group] * part * wireBytes[group]
      missing[group] *= part > 0.999_999 ? 0 : 1 - part
      left -= rest * part
    }
    return budget - left
  }
}
