import Base
import Strategy

/// What became of a fleet's moves.
public struct FleetOutcome: Sendable, Equatable {
  /// Until the last move had ended, in milliseconds.
  public var totalMs = 0.0
  public var outcomes: [SimulationOutcome] = []
  /// From the wish to the start of each move, in milliseconds.
  public var waitedMs: [Double] = []
  /// Moves in progress at the same time, at most.
  public var concurrentMax = 0
  /// Bytes over the racks' uplinks, and the share of their time that these were full.
  public var wireBytes = 0.0
  public var rackBusyShare = 0.0
  /// A rule that was broken, or nil.
  public var violation: String?

  /// Moves of which the guest and all of its memory are at the destination.
  public var completedCount: Int { outcomes.count { $0.isCompleted } }
}

/// Runs a fleet: each move is a `MigrationRun`, and all links are divided max-min fairly anew in every tick.
public enum FleetRun {
  /// Milliseconds of virtual time between two looks of every move.
  static let tickMs = 100.0
  /// What no fleet may need, in milliseconds: 100 days.
  static let endlessMs = 8.64e9

  private struct Move {
    let source, destination: Int
    let path: [Int]
    var run: MigrationRun<FluidMemory>
  }

  /// Runs the whole fleet in virtual time, to its end or to what no fleet may need (then
  /// `violation` says so). The same seed gives the same outcome on every machine.
  public static func run(_ setup: FleetSetup, seed: UInt64) -> FleetOutcome {
    var noise = Noise(seed: seed)
    var outcome = FleetOutcome()
    var queue = (0..<setup.moveCount).map { $0 }
    queue.reverse()
    var active: [Move] = []
    var (out, into) = (
      [Int](repeating: 0, count: setup.hostCount), [Int](repeating: 0, count: setup.hostCount)
    )
    let shares = FairShares(capacities: setup.capacities)
    var (nowMs, busyMs) = (0.0, 0.0)
    while !active.isEmpty || !queue.isEmpty {
      var waiting: [Int] = []
      while let index = queue.popLast() {
        let source = index % setup.hostCount
        // Destinations in another order than sources, so that racks mix.
        let destination = (index / setup.hostCount * 7 + source * 3 + index) % setup.hostCount
        guard active.count < setup.totalMax else {
          waiting.append(index)
          break
        }
        guard out[source] < setup.perHostMax, into[destination] < setup.perHostMax else {
          waiting.append(index)
          continue
        }
        out[source] += 1
        into[destination] += 1
        outcome.waitedMs.append(nowMs)
        active.append(
          start(setup, source, destination, seed: seed &+ UInt64(index), noise: &noise))
      }
      queue += waiting.reversed()
      outcome.concurrentMax = max(outcome.concurrentMax, active.count)
      busyMs += step(&active, shares, setup, &outcome)
      nowMs += tickMs
      for move in active where move.run.isDone {
        out[move.source] -= 1
        into[move.destination] -= 1
        outcome.outcomes.append(Simulation.checked(move.run.outcome, move.run.setup))
        outcome.wireBytes += move.run.outcome.wireBytes
      }
      active.removeAll { $0.run.isDone }
      if nowMs > endlessMs {
        outcome.violation = "did not end"
        break
      }
    }
    outcome.totalMs = nowMs
    outcome.rackBusyShare = nowMs > 0 ? busyMs / nowMs : 0
    if outcome.violation == nil {
      outcome.violation = outcome.outcomes.lazy.compactMap(\.violation).first
    }
    return outcome
  }

  private static func start(
    _ setup: FleetSetup, _ source: Int, _ destination: Int, seed: UInt64, noise: inout Noise
  ) -> Move {
    let guest = setup.guest(&noise)
    let link = LinkModel(bytesPerSecond: setup.hostRate, latencyMs: 0.2)
    var one = SimulationSetup(setup.strategy, guest, link, setup.constraints)
    one.canPull = setup.canPull
    one.penBytes = SimulationSetup.usualPenBytes
    return Move(
      source: source, destination: destination,
      path: setup.path(from: source, to: destination),
      run: MigrationRun(one, memory: FluidMemory(guest, bytesPerSecond: link.goodput), seed: seed))
  }

  /// One tick of all moves; gives the milliseconds in which a rack's uplink was full, as a mean over racks.
  private static func step(
    _ active: inout [Move], _ shares: FairShares, _ setup: FleetSetup, _ outcome: inout FleetOutcome
  ) -> Double {
    let rates = shares.divide(
      paths: active.map(\.path), limits: active.map { $0.run.setup.link.goodput })
    var used = [Double](repeating: 0, count: shares.capacities.count)
    for (index, rate) in rates.enumerated() {
      for link in active[index].path { used[link] += rate }
      active[index].run.step(ms: tickMs, bytesPerSecond: rate)
    }
    for (link, capacity) in shares.capacities.enumerated()
    where used[link] > capacity * 1.000_001 && outcome.violation == nil {
      outcome.violation = "link \(link) carries more than it can"
    }
    let racks = 2 * setup.hostCount..<shares.capacities.count
    let full = racks.count { used[$0] > shares.capacities[$0] * 0.999 }
    return tickMs * Double(full) / Double(max(racks.count, 1))
  }
}
