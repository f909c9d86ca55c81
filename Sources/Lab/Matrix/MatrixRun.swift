import Agent
import Base
import HostIO

/// Runs a scenario out of a file: every cell a fresh guest, a migration, a result.
public struct MatrixRun: Sendable {
  /// Trials that can't be done one after the other, until the machine itself is at fault.
  static let failuresInARowMax = 3

  public let scenario: MatrixScenario
  public let selection: MatrixSelection
  /// What every trial has in common: the network, TLS, the program. Guest and method are the scenario's.
  let common: LabOptions
  let results: ResultsFile?
  let observer: any LabObserver

  /// - Parameters:
  ///   - common: the network, TLS, the program; guest and method are the scenario's.
  ///   - results: where to go on, and where each result is written; nil: nothing is kept.
  public init(
    _ scenario: MatrixScenario, _ selection: MatrixSelection, common: LabOptions,
    results: ResultsFile?, observer: any LabObserver
  ) {
    (self.scenario, self.selection) = (scenario, selection)
    (self.common, self.results, self.observer) = (common, results, observer)
  }

  /// What a run came to.
  public struct Summary: Sendable {
    /// Of this run and those before it that the results file holds.
    public var results: [MatrixResult] = []
    /// Cells without a result, and why.
    public var undone: [(cell: String, reason: String)] = []
  }

  /// Does what the results file does not have yet, and hands over each result once it is written there.
  public func run(each: (MatrixResult) async -> Void) async throws -> Summary {
    let (done, todo) = try open()
    var summary = Summary(results: done)
    let doneCount = Set(done.map(\.baseCell)).count
    await observer.note(
      "\(scenario.name): \(doneCount + todo.count) migrations, \(doneCount) of them already done")
    guard let first = todo.first else { return summary }
    let build = await LabBuild.read(program: try LabAgent.program(common))
    try await withHosts(LabRun(options: try options(for: first), observer: observer)) {
      hosts, folder in
      var failures = 0
      for (index, cell) in todo.enumerated() {
        try Task.checkCancellation()
        await observer.note("[\(index + 1)/\(todo.count)] \(cell.key)")
        do {
          let past = summary.results.reversed().map(\.record)
          let found = try await trials(
            cell, number: index, build, past: past, hosts: hosts, folder: folder)
          failures = 0
          for result in found {
            try results?.append(result)
            summary.results.append(result)
            await each(result)
          }
        } catch {
          if Task.isCancelled || error is CancellationError { throw CancellationError() }
          failures += 1
          await observer.note("\(cell.key) could not be done: \(error)")
          summary.undone.append((cell.key, "\(error)"))
          guard failures < Self.failuresInARowMax else { throw error }
          Leftovers.endProcesses(naming: folder.path + "/")
        }
      }
    }
    return summary
  }

  private func withHosts(
    _ run: LabRun, _ body: (HostPair, RunFolder) async throws -> Void
  ) async throws {
    guard scenario.kind == .guest else { return try await run.withNetwork(body) }
    try await run.withHosts { _, hosts, folder in try await body(hosts, folder) }
  }

  /// What the results file has of this experiment, and the cells that it lacks.
  func open() throws -> (done: [MatrixResult], todo: [MatrixCell]) {
    let cells = MatrixPlan.cells(scenario, selection)
    let groups = Dictionary(grouping: try earlier(cells), by: \.baseCell)
    let todo = try cells.filter { cell in
      let results = groups[cell.key] ?? []
      // What was refused may be possible by now. Of guests moved at once all must be there.
      return try results.count < count(cell)
        || results.contains { $0.record.outcome == .refused }
    }
    let isOpen = Set(todo.map(\.key))
    return (cells.flatMap { isOpen.contains($0.key) ? [] : groups[$0.key] ?? [] }, todo)
  }

  /// Results of these cells from before; throws when the file is about something else.
  private func earlier(_ cells: [MatrixCell]) throws -> [MatrixResult] {
    guard let results else { return [] }
    let keys = Dictionary(cells.map { ($0.key, $0) }, uniquingKeysWith: { first, _ in first })
    var found: [MatrixResult] = []
    for result in try results.read() {
      guard result.record.scenario == scenario.name, result.lab.seed == scenario.seed else {
        throw LabError("\(results.path) holds results of another experiment; name another file")
      }
      guard let cell = keys[result.baseCell] else { continue }
      guard result.lab.fingerprint == (try fingerprint(cell)) else {
        throw LabError(
          "\(results.path) holds results of \(scenario.name) with another guest or network"
            + " (\(result.lab.cell)); name another file")
      }
      found.append(result)
    }
    return found
  }

  private func trials(
    _ cell: MatrixCell, number: Int, _ build: LabBuild, past: [MigrationRecord], hosts: HostPair,
    folder: RunFolder
  ) async throws -> [MatrixResult] {
    var options = try options(for: cell)
    if case .disk(let method, _) = cell.method {
      var facts = try facts(cell, options, hosts, build)
      facts.host.loadPercent = HostFacts.loadPercent()
      let trial = DiskTrial(
        method: method, disk: try disk(cell), label: "m\(number)", options: options, hosts: hosts,
        folder: folder, observer: observer)
      return try await trial.run().map { MatrixResult($0, facts) }
    }
    options.pastForecasts = past.compactMap(PastForecast.init)
    options.pastKnownMoves = past.compactMap(PastKnownMove.init)
    let run = LabRun(options: options, observer: observer)
    let commandLine = try await run.prepare(CacheFolder())
    var facts = try facts(cell, options, hosts, build)
    facts.host.loadPercent = HostFacts.loadPercent()
    let trials = try await LabRun.trials(
      cell.method, label: "m\(number)", options: options, commandLine: commandLine, hosts: hosts,
      folder: folder, observer: observer)
    return trials.map { MatrixResult($0, facts) }
  }
}

extension MatrixResult {
  /// - Parameter facts: of the cell.
  init(_ trial: Trial, _ facts: Facts) {
    var facts = facts
    if let together = trial.together {
      facts.cell += "#\(together.member)"
      facts.block += "#\(together.member)"
    }
    facts.damage = trial.damage
    (facts.heartbeatGapMs, facts.scansAfter) = (trial.heartbeatGapMs, trial.scansAfter)
    facts.brokenConnections = trial.brokenConnections
    facts.dirtyBytesPerSecond = trial.dirtyBytesPerSecond
    facts.operationsPerSecond = trial.operationsPerSecond
    facts.operationsTimeline = trial.operationsTimeline
    (facts.throughput, facts.samples) = (trial.throughput, trial.samples)
    (facts.kernelRunsAfter, facts.cost) = (trial.kernelRunsAfter, trial.cost)
    facts.together = trial.together
    (facts.disk, facts.competingBytesPerSecond) = (trial.disk, trial.competingBytesPerSecond)
    self.init(record: trial.record, lab: facts)
  }

  /// The cell's name without a guest's number.
  var baseCell: String {
    lab.together == nil ? lab.cell : String(lab.cell.prefix { $0 != "#" })
  }

  /// The block's.
  var baseBlock: String {
    lab.together == nil ? lab.block : String(lab.block.prefix { $0 != "#" })
  }
}
