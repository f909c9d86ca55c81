import Logging
import Synchronization

@testable import Agent

/// An agent whose one migration is driven by the test.
final class ScriptedAgent: AgentService {
  let started = Mutex(0)
  let cancelled = Mutex<[String]>([])
  private let endsWhenCancelled: Bool
  private let (gate, opener) = AsyncStream<Void>.makeStream()

  init(endsWhenCancelled: Bool = true) { self.endsWhenCancelled = endsWhenCancelled }

  /// Lets the migration end.
  func open() { opener.finish() }

  func vms() async throws -> [VMSummary] { [VMSummary(name: "web-1", pid: 42)] }

  func migrate(
    _ request: MigrationRequest, progress: @Sendable @escaping (MigrationProgress) -> Void
  ) async -> MigrationRecord {
    started.withLock { $0 += 1 }
    progress(look(request.vm))
    for await _ in gate {}
    var record = MigrationRecord(
      outcome: cancelled.withLock { $0.isEmpty } ? .completed : .cancelled)
    record.vm = request.vm
    return record
  }

  func look(_ vm: String) -> MigrationProgress {
    MigrationProgress(
      id: "1", vm: vm, peer: "p", side: "source", phase: .bulk, strategy: "precopy")
  }

  func status() async -> [MigrationProgress] { [look("web-1")] }

  func cancel(vm: String) async throws {
    guard vm == "web-1" else { throw ControlError(.refused, "no migration of \(vm) runs") }
    cancelled.withLock { $0.append(vm) }
    if endsWhenCancelled { open() }
  }

  func recover(_ request: RecoverRequest) async throws -> [RecoveryItem] {
    var item = RecoveryItem(id: "0123456789abcdef", state: "commit in doubt")
    (item.vm, item.needsHuman) = ("web-1", request.decision == nil)
    item.isSettled = request.decision != nil
    return request.target == nil || request.target == "web-1" ? [item] : []
  }

  func trace(
    _ request: TraceRequest, progress: @Sendable @escaping (TraceLook) -> Void
  ) async throws -> TraceRecord {
    guard request.vm == "web-1" else { throw ControlError(.refused, "no VM \(request.vm)") }
    var epochs: [[UInt64]] = []
    for _ in 0..<request.epochCount {
      epochs.append([request.epochMs, 100, 0, 0, 0, 0, 0, 0, 200])
      progress(
        TraceLook(epochs: UInt64(epochs.count), lastMs: request.epochMs, dirtiedPages: 300))
      await Task.yield()
    }
    return TraceRecord(
      vm: request.vm, source: .shared, sampledPages: 1000, ramPages: 4000, unseenPages: 0,
      zeroPages: 50, vcpuCount: 2, epochs: epochs)
  }

  func warm(
    _ request: WarmRequest, progress: @Sendable @escaping (WarmLook) -> Void
  ) async throws -> WarmRecord {
    guard request.vm == "web-1" else { throw ControlError(.refused, "no VM \(request.vm)") }
    for quarter in 1...4 as ClosedRange<UInt64> {
      progress(WarmLook(doneBytes: quarter << 20, ramBytes: 4 << 20, wireBytes: quarter << 18))
      await Task.yield()
    }
    return WarmRecord(
      vm: request.vm, destination: request.destination, sentPages: 600, heldPages: 300,
      zeroPages: 124, unseenPages: 0, keptPages: 900, keptBytes: 3_800_000, wireBytes: 1 << 20,
      durationMs: 4000)
  }

  func plan(_ request: MigrationRequest) async throws -> PlanReport {
    guard request.vm == "web-1" else { throw ControlError(.refused, "no VM \(request.vm)") }
    return try JSONLine.decode(PlanReport.self, from: Self.planned.utf8)
  }

  /// As an agent answers.
  static let planned = """
    {"vm":"web-1","destination":"b","refusals":[],"qemu":"10.0.2","vcpuCount":2,"hostCores":4,\
    "canPull":false,"earlier":[],"link":{"bytesPerSecond":110000000,"roundTripUs":400,"lanes":4,\
    "bytes":25165824,"durationMs":300},"guest":{"source":"shared","sampledPages":16384,\
    "ramPages":262144,"unseenPages":12,"seed":7,"durationMs":4100,"cpuMs":200,\
    "zeroPages":{"pages":65536,"lowPages":64000,"highPages":67000},"dirtyCurve":[\
    {"windowMs":250,"dirtied":{"pages":2000,"lowPages":1700,"highPages":2300}},\
    {"windowMs":1000,"dirtied":{"pages":6000,"lowPages":5500,"highPages":6500}},\
    {"windowMs":4000,"dirtied":{"pages":12000,"lowPages":11200,"highPages":12800}}]}}
    """

  func vault(_ request: VaultRequest) async throws -> [VaultItem] {
    var item = VaultItem(id: "00112233445566778899aabbccddeeff", state: .whole, bytes: 5 << 20)
    (item.vm, item.takenAt, item.ramBytes) = ("web-1", 1_700_000_000, 64 << 20)
    if request.action == .verify { (item.state, item.problem) = (.damaged, "cut short") }
    if request.action == .prune { item.state = .removed }
    return request.targets.isEmpty || request.targets == ["web-1"] ? [item] : []
  }

  func history(limit: Int) async throws -> [MigrationRecord] {
    Array(repeating: MigrationRecord(outcome: .completed), count: limit)
  }
}

extension ScriptedAgent {
  /// Runs `body` beside a control server at `path` that this agent answers.
  func serve(
    at path: String, inherited: Int32? = nil,
    _ body: @Sendable (ControlClient, ScriptedAgent) async throws -> Void
  ) async throws {
    let (ready, opened) = AsyncStream<Void>.makeStream()
    let server = ControlServer(
      path: path, inherited: inherited, agent: self,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
      listening: { opened.finish() })
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        defer { opened.finish() }
        try await server.run()
      }
      for await _ in ready {}
      try await body(ControlClient(path: path), self)
      group.cancelAll()
      while let result = await group.nextResult() {
        if case .failure(let error) = result, !(error is CancellationError) { throw error }
      }
    }
  }
}
