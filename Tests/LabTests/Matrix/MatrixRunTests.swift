import Agent
import Foundation
import Synchronization
import Testing

@testable import Lab

/// Results as they come.
private final class Counted: Sendable {
  private let results = Mutex<[MatrixResult]>([])

  /// Returns how many there are then.
  func add(_ result: MatrixResult) -> Int {
    results.withLock {
      $0.append(result)
      return $0.count
    }
  }
  var all: [MatrixResult] { results.withLock { $0 } }
}

/// An experiment out of a file, with real guests, interrupted and gone on with.
@Suite(
  .serialized,
  .enabled(
    if: LabEquipment.isThere,
    "skipped: no guest kernel, QEMU or memcached; run scripts/install-dependencies.sh"))
struct MatrixRunTests {
  private static let file = """
    name = "tiny"
    methods = ["qemu-precopy", "qemu-postcopy"]
    rounds = 1
    warmUp = "500ms"
    [[guest]]
    name = "clients"
    memory = "320MiB"
    fill = "32MiB"
    hot = "8MiB"
    verify = "max"
    memcached = "48MiB"
    [guest.clients]
    connections = 2
    keys = 4000
    valueBytes = 1000
    pattern = "zipf"
    batch = 4
    """

  /// Runs it, and interrupts it after `most` results.
  private func run(
    _ file: ResultsFile, _ text: String = Self.file, most: Int = .max
  ) async throws -> (results: [MatrixResult], notes: Notes) {
    let scenario = try MatrixScenario.parse(text, path: "tiny.toml")
    let notes = Notes()
    let done = Counted()
    let work = Task {
      let run = MatrixRun(
        scenario, MatrixSelection(), common: LabOptions(), results: file, observer: notes)
      return try await run.run { result in
        if done.add(result) == most { withUnsafeCurrentTask { $0?.cancel() } }
      }
    }
    do {
      let summary = try await work.value
      #expect(summary.undone.map(\.reason) == [])
    } catch is CancellationError {
      #expect(most < .max)
    }
    return (done.all, notes)
  }

  @Test func whatWasInterruptedGoesOn() async throws {
    let path = NSTemporaryDirectory() + "godwit-matrix-\(UUID().uuidString).jsonl"
    defer { try? FileManager.default.removeItem(atPath: path) }
    let file = ResultsFile(path: path)
    let first = try await run(file, most: 1)
    #expect(first.results.count == 1)
    let second = try await run(file)
    #expect(second.results.count == 1)
    #expect(second.notes.all.contains("tiny: 2 migrations, 1 of them already done"))
    let third = try await run(file)
    #expect(third.results.count == 0)

    let results = try file.read()
    #expect(results.map(\.lab.cell) == (first.results + second.results).map(\.lab.cell))
    #expect(Set(results.map(\.lab.method)) == ["qemu-precopy", "qemu-postcopy"])
    for result in results {
      #expect(
        result.isDone && result.isIntact, "\(result.record.reason ?? "") \(result.lab.damage)")
      #expect(result.record.scenario == "tiny" && result.record.clientGapMs != nil)
      #expect(try #require(result.lab.operationsPerSecond) > 0)
      #expect(try #require(result.lab.throughput).baselinePerSecond > 0)
      #expect(try #require(result.lab.dirtyBytesPerSecond) > 1 << 20)
      #expect(try #require(result.lab.programSHA256).count == 16)
    }
    #expect(MatrixTable.lines(results).contains { $0.contains("qemu-postcopy") })
  }

  @Test func guestsMoveTogether() async throws {
    let text = """
      name = "tiny"
      methods = ["qemu-precopy"]
      rounds = 1
      warmUp = "500ms"
      [[guest]]
      name = "two"
      count = 2
      memory = "256MiB"
      fill = "16MiB"
      hot = "4MiB"
      dirty = "1MiB/s"
      verify = "max"
      kernel = "is"
      """
    let path = NSTemporaryDirectory() + "godwit-matrix-\(UUID().uuidString).jsonl"
    defer { try? FileManager.default.removeItem(atPath: path) }
    let file = ResultsFile(path: path)
    let results = try await run(file, text).results
    #expect(results.map(\.lab.cell) == (0...1).map { "0/two/newest/qemu-precopy#\($0)" })
    for (number, result) in results.enumerated() {
      #expect(result.isDone && result.isIntact, "\(result.lab.damage)")
      #expect(try #require(result.lab.kernelRunsAfter) > 0)
      let together = try #require(result.lab.together)
      #expect(together.count == 2 && together.member == number)
      #expect(try #require(together.totalMs) >= (result.record.totalMs ?? .max) / 2)
    }
    let cost = try #require(results[0].lab.cost)
    #expect(try #require(cost.processorMs) > 0 && cost.agentPeakBytes == nil)
    #expect(results[1].lab.cost == nil)
    #expect(MatrixTable.lines(results).contains { $0.contains("ALL MOVED") })
    // One of them lost: both are done again.
    try #require(try await run(file, text).results.isEmpty)
    let first = try #require(
      try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").first)
    try (first + "\n").write(toFile: path, atomically: true, encoding: .utf8)
    let scenario = try MatrixScenario.parse(text, path: "tiny.toml")
    let left = try MatrixRun(
      scenario, MatrixSelection(), common: LabOptions(), results: file, observer: Notes()
    ).open().todo
    #expect(left.map(\.key) == ["0/two/newest/qemu-precopy"])
  }
}
