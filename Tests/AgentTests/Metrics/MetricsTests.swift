import Base
import HostIO
import Logging
import Testing

@testable import Agent

@Suite struct MetricsTests {
  static func example() -> AgentMetrics {
    var configuration = AgentConfiguration()
    configuration.bandwidth = ByteRate(parsing: "1Gbit")
    var counters = AgentCounters()
    for (downtimeMs, totalMs) in [(20, 900), (250, 4000), (99_000, 7_200_000)] as [(UInt64, UInt64)]
    {
      var record = MigrationRecord(outcome: .completed)
      (record.downtimeMs, record.totalMs, record.wireBytes) = (downtimeMs, totalMs, 1000)
      (record.pages.vault, record.pages.zero) = (7, 100)
      counters.add(record)
    }
    counters.add(MigrationRecord(outcome: .refused))
    counters.addIncoming(completed: true)
    var look = MigrationProgress(
      id: "1", vm: "a\"b\\c\nd}", peer: "h:1", side: "source", phase: .iterate,
      strategy: "precopy")
    (look.elapsedMs, look.wireBytes, look.etaMs, look.progressPermille) = (5000, 500, 1250, 714)
    return AgentMetrics(
      version: "1.2.3", nowSeconds: 1_000_005, startedAtSeconds: 999_000, isReady: true,
      configuration: configuration, counters: counters, running: [look])
  }

  @Test func theTextIsWellFormed() throws {
    let metrics = try MetricsParser(Self.example().text)
    #expect(metrics.kinds.keys.allSatisfy { $0.hasPrefix("godwit_") })
    #expect(metrics.value("godwit_agent_info", ["version": "1.2.3"]) == 1)
    #expect(metrics.value("godwit_agent_bandwidth_max_bytes") == 125_000_000)
    #expect(metrics.value("godwit_migration_data_bytes_total") == 3500)
    #expect(metrics.value("godwit_migration_pages_total", ["kind": "vault"]) == 21)
    #expect(metrics.value("godwit_migration_pages_total", ["kind": "zero"]) == 300)
    #expect(metrics.value("godwit_migration_pages_total", ["kind": "gang"]) == 0)
    let labels = ["vm": "a\"b\\c\nd}", "peer": "h:1", "side": "source"]
    #expect(metrics.value("godwit_migration_eta_seconds", labels) == 1.25)
    #expect(metrics.value("godwit_migration_progress_ratio", labels) == 0.714)
    #expect(metrics.value("godwit_migration_start_time_seconds", labels) == 1_000_000)
    #expect(metrics.value("godwit_migration_dirty_memory_rate_bytes", labels) == nil)
    #expect(
      metrics.value("godwit_migrations_in_phase", ["side": "source", "phase": "iterate"]) == 1)
    #expect(
      metrics.value("godwit_migrations_ended_total", ["side": "source", "outcome": "completed"])
        == 3)
  }

  @Test func histogramsAreCumulative() throws {
    let metrics = try MetricsParser(Self.example().text)
    let name = "godwit_migration_downtime_seconds"
    #expect(metrics.value(name + "_bucket", ["le": "0.01"]) == 0)
    #expect(metrics.value(name + "_bucket", ["le": "0.03"]) == 1)
    #expect(metrics.value(name + "_bucket", ["le": "0.3"]) == 2)
    #expect(metrics.value(name + "_bucket", ["le": "10"]) == 2)
    #expect(metrics.value(name + "_bucket", ["le": "+Inf"]) == 3)
    #expect(metrics.value(name + "_count") == 3)
    #expect(metrics.value(name + "_sum") == 99.27)
  }

  @Test func nothingRunsYet() throws {
    let metrics = AgentMetrics(
      version: "1", nowSeconds: 0, startedAtSeconds: 0, isReady: false,
      configuration: AgentConfiguration(), counters: AgentCounters(), running: [])
    #expect(try MetricsParser(metrics.text).value("godwit_agent_ready") == 0)
  }
}

@Suite struct MetricsServerTests {
  private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  /// What the server says to `request`, which is sent as it is.
  private static func ask(_ port: Int, _ request: String) async throws -> String {
    try await Blocking.run {
      let socket = try TCPSocket.connect(
        host: "127.0.0.1", port: UInt16(clamping: port), timeoutMs: 10_000)
      socket.setTimeout(ms: 20_000)
      try socket.writeAll(Array(request.utf8).span.bytes)
      var text: [UInt8] = []
      var chunk = [UInt8](repeating: 0, count: 4096)
      while true {
        let count = try chunk.withUnsafeMutableBytes { try socket.read(into: $0) }
        if count == 0 { return String(decoding: text, as: UTF8.self) }
        text += chunk[..<count]
      }
    }
  }

  @Test(.timeLimit(.minutes(2))) func healthReadinessAndMetrics() async throws {
    let agent = MigrationAgent(
      configuration: AgentConfiguration(), history: nil, logger: Self.logger)
    let health = AgentHealth(agent: agent)
    let (ports, feed) = AsyncStream<Int>.makeStream()
    var server = MetricsServer(
      address: "127.0.0.1:0", answers: { await health.answer($0) }, logger: Self.logger)
    server.listening = { port in
      if let port { feed.yield(port) }
      feed.finish()
    }
    try await withThrowingTaskGroup(of: Void.self) { [server] group in
      group.addTask {
        defer { feed.finish() }
        try await server.run()
      }
      var found: Int?
      for await port in ports { found = port }
      let port = try #require(found)
      func get(_ path: String) async throws -> String {
        try await Self.ask(port, "GET \(path) HTTP/1.1\r\nHost: x\r\n\r\n")
      }
      #expect(try await get("/healthz").hasPrefix("HTTP/1.1 200 OK\r\n"))
      #expect(try await get("/readyz").contains("ready: 0 of 16 migrations out, 0 of 16 in"))
      let answer = try await get("/metrics?x=1")
      let body = try #require(answer.split(separator: "\r\n\r\n", maxSplits: 1).last)
      #expect(try MetricsParser(String(body)).value("godwit_agent_ready") == 1)
      #expect(answer.contains("text/plain; version=0.0.4"))
      #expect(try await get("/other").hasPrefix("HTTP/1.1 404"))
      let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
      #expect(try await Self.ask(port, post).hasPrefix("HTTP/1.1 405"))
      let head = try await Self.ask(port, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
      #expect(head.hasPrefix("HTTP/1.1 200") && head.hasSuffix("\r\n\r\n"))
      #expect(try await Self.ask(port, "no request\r\n\r\n").hasPrefix("HTTP/1.1 400"))

      await agent.drain()
      #expect(try await get("/readyz").hasPrefix("HTTP/1.1 503"))
      #expect(try await get("/healthz").hasPrefix("HTTP/1.1 200"))
      group.cancelAll()
    }
  }
}

/// A scrape while migrations end.
@Suite(.timeLimit(.minutes(2))) struct MetricsSnapshotTests {
  /// Each migration is among those that run or among those that have ended, never in both: a counter that adds the two
  /// would go back with the next look.
  @Test func eachMigrationIsCountedOnce() async throws {
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    var configuration = AgentConfiguration()
    configuration.outgoingMax = 64
    let agent = MigrationAgent(
      configuration: configuration, history: await HistoryStore.inMemory(logger), logger: logger)
    let count = 40
    var mostSeen = 0
    await withTaskGroup(of: Void.self) { group in
      for number in 0..<count {
        // Refused once its guest was looked for.
        group.addTask {
          let request = MigrationRequest(vm: "nobody-\(number)", destination: "127.0.0.1:1")
          _ = await agent.migrate(request) { _ in }
        }
      }
      var ended = 0
      while ended < count {
        let snapshot = await agent.snapshot
        ended = Int(snapshot.counters.ended.values.reduce(0, +))
        mostSeen = max(mostSeen, ended + snapshot.running.count)
        await Task.yield()
      }
    }
    #expect(mostSeen == count)
  }

  /// What was said while it ran is not taken back when it ends without a word.
  @Test func bytesNeverBecomeFewer() {
    var counters = AgentCounters()
    var record = MigrationRecord(outcome: .failed)
    counters.add(record, sentBytes: 900)
    record.wireBytes = 1000
    counters.add(record, sentBytes: 900)
    #expect(counters.wireBytes == 1900)
  }
}
