import Strategy

/// Visits every state that the commit protocol can reach within a budget of faults, breadth first, so
/// that a counterexample is as short as any.
public struct CommitExplorer {
  let budget: FaultBudget
  let mutation: CommitMutation?
  let pulls: Bool
  /// Exploration stops there and says so: memory is bounded.
  let statesMax: Int

  /// - Parameter pulls: the guest moves before its memory.
  public init(
    budget: FaultBudget, pulls: Bool = false, mutation: CommitMutation? = nil,
    statesMax: Int = 4_000_000
  ) {
    (self.budget, self.pulls) = (budget, pulls)
    (self.mutation, self.statesMax) = (mutation, statesMax)
  }

  /// Explores until everything is seen, or something is wrong.
  public func explore() -> CommitReport {
    var visited = Visited()
    _ = visited.add(CommitWorld(budget, pulls: pulls), from: -1)
    var report = CommitReport()
    var next = 0
    while next < visited.states.count {
      let world = visited.states[next]
      report.note(world)
      if let violation = CommitChecks.violation(in: world) {
        report.counterexample = .init(violation, steps: path(to: next, in: visited))
        break
      }
      guard visited.states.count < statesMax else {
        report.isComplete = false
        break
      }
      for event in world.events(mutation) {
        let index = visited.add(event.next, from: next)
        report.transitionCount += 1
        if !event.isFault { visited.edges.append((Int32(next), index)) }
      }
      next += 1
    }
    report.stateCount = visited.states.count
    if report.counterexample == nil, report.isComplete, let stuck = visited.firstStuck() {
      report.counterexample = .init(
        "no more faults, and yet it can never be settled", steps: path(to: stuck, in: visited))
    }
    return report
  }

  /// What happened on the way from the beginning to a state.
  private func path(to index: Int, in visited: Visited) -> [String] {
    var steps: [String] = []
    var index = index
    while visited.parents[index] >= 0 {
      let parent = Int(visited.parents[index])
      let event = visited.states[parent].events(mutation).first {
        $0.next == visited.states[index]
      }
      steps.append(event?.description ?? "?")
      index = parent
    }
    return steps.reversed()
  }

  private struct Visited {
    var states: [CommitWorld] = []
    /// The state from which each was first reached; -1 for the beginning.
    var parents: [Int32] = []
    /// Steps without a fault, from and to.
    var edges: [(Int32, Int32)] = []
    private var indices: [CommitWorld: Int32] = [:]

    mutating func add(_ world: CommitWorld, from parent: Int) -> Int32 {
      if let known = indices[world] { return known }
      let index = Int32(states.count)
      indices[world] = index
      states.append(world)
      parents.append(Int32(parent))
      return index
    }

    /// The first state from which no run without further faults ends settled.
    func firstStuck() -> Int? {
      var predecessors = [[Int32]](repeating: [], count: states.count)
      for (from, to) in edges where from != to { predecessors[Int(to)].append(from) }
      var ends = states.map(\.isSettled)
      var queue = states.indices.filter { ends[$0] }
      while let index = queue.popLast() {
        for before in predecessors[index] where !ends[Int(before)] {
          ends[Int(before)] = true
          queue.append(Int(before))
        }
      }
      return ends.firstIndex(of: false)
    }
  }
}

/// What an exploration or a series of runs saw.
public struct CommitReport: Sendable {
  /// The way to a state in which an invariant is broken.
  public struct Counterexample: Sendable {
    public let violation: String
    /// What happened, in order.
    public let steps: [String]

    init(_ violation: String, steps: [String]) { (self.violation, self.steps) = (violation, steps) }
  }

  /// Distinct states that an exploration has found; steps of runs.
  public internal(set) var stateCount = 0
  public internal(set) var transitionCount = 0
  /// States in which nothing is left to do, by where the guest is then.
  public internal(set) var settledAtSource = 0
  public internal(set) var settledAtDestination = 0
  public internal(set) var settledNowhere = 0
  /// Of all settled ones: a person is asked.
  public internal(set) var needsHumanCount = 0
  /// False: the bound on states came first.
  public internal(set) var isComplete = true
  /// nil: nothing was broken in what was looked at.
  public internal(set) var counterexample: Counterexample?

  public init() {}

  mutating func note(_ world: CommitWorld) {
    guard world.isSettled else { return }
    if world.needsHuman { needsHumanCount += 1 }
    if world.sourceQEMU == .running {
      settledAtSource += 1
    } else if world.destinationQEMU == .running {
      settledAtDestination += 1
    } else {
      settledNowhere += 1
    }
  }
}
