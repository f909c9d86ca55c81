import Glibc
import HostIO
import Testing

@testable import Lab

@Suite(.serialized) struct MemcachedTests {
  static let program = ["/usr/bin/memcached", "/usr/local/bin/memcached"]
    .first { SmallFile.isExecutable($0) }

  /// A memcached of the test's own on a free port, ended afterwards.
  private func withMemcached(_ body: (UInt16, ChildProcess) async throws -> Void) async throws {
    let listener = try TCPSocket.listen(host: "127.0.0.1", port: 0)
    let port = try #require(TCPSocket.localPort(of: listener))
    listener.shutdown()
    let program = try #require(Self.program)
    let user = geteuid() == 0 ? ["-u", "root"] : []
    let memcached = try ChildProcess(
      program, user + ["-l", "127.0.0.1", "-p", "\(port)", "-U", "0"])
    do {
      try await body(port, memcached)
    } catch {
      await memcached.terminate()
      throw error
    }
    await memcached.terminate()
  }

  /// What the clients say once it is `isSo`.
  private func report(
    _ client: StoreClient, _ what: String, _ isSo: (StoreClient.Report) -> Bool
  ) async throws -> StoreClient.Report {
    let until = MonotonicClock.nowMs + 30_000
    while true {
      let report = client.report()
      if isSo(report) { return report }
      guard MonotonicClock.nowMs < until else { throw LabError("not \(what)") }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  @Test(.enabled(if: program != nil, "skipped: memcached is not installed"))
  func clientsSeeOperationsAndADeath() async throws {
    try await withMemcached { port, memcached in
      var options = StoreClient.Options()
      options.port = port
      let client = StoreClient(options: options, namespace: nil)
      defer { client.stop() }
      try await client.waitUntilConnected(timeoutMs: 60_000)
      let fromUs = MonotonicClock.nowUs
      let alive = try await report(client, "busy") { report in
        report.connected == options.connections
          && report.completionsUs.count { $0 >= fromUs } > 5
      }
      #expect(alive.brokenConnections == 0 && alive.wrongValues == 0)
      let lastUs = try #require(alive.completionsUs.last)
      #expect(alive.timeline(fromUs: fromUs, toUs: lastUs + 1).reduce(0, +) > 5)
      #expect(alive.timeline(fromUs: fromUs, toUs: fromUs + 300_000).count == 31)
      #expect(alive.longestGapMs(fromUs: fromUs, toUs: lastUs) != nil)

      await memcached.terminate()
      let dead = try await report(client, "broken off") {
        $0.brokenConnections >= UInt64(options.connections)
      }
      // Nothing is answered any more, however far one looks.
      let toUs = try #require(dead.completionsUs.last) + 300_000
      #expect(dead.longestGapMs(fromUs: fromUs, toUs: toUs) ?? 0 >= 300)
    }
  }

  @Test(.enabled(if: program != nil, "skipped: memcached is not installed"))
  func aPausedServerIsAGapAndNoBreak() async throws {
    try await withMemcached { port, memcached in
      var options = StoreClient.Options()
      options.port = port
      let client = StoreClient(options: options, namespace: nil)
      defer { client.stop() }
      try await client.waitUntilConnected(timeoutMs: 60_000)
      let fromUs = MonotonicClock.nowUs
      _ = try await report(client, "busy") { $0.completionsUs.contains { $0 >= fromUs } }
      memcached.send(signal: SIGSTOP)
      _ = try await report(client, "silent") {
        MonotonicClock.nowUs >= ($0.completionsUs.last ?? 0) + 400_000
      }
      let contUs = MonotonicClock.nowUs
      memcached.send(signal: SIGCONT)
      let after = try await report(client, "busy again") {
        $0.completionsUs.contains { $0 >= contUs }
      }
      #expect(after.brokenConnections == 0 && after.wrongValues == 0)
      let gap = try #require(after.longestGapMs(fromUs: fromUs, toUs: MonotonicClock.nowUs))
      #expect(gap >= 400)
    }
  }

  @Test(.enabled(if: program != nil, "skipped: memcached is not installed"))
  func someoneElsesValueIsNoticed() async throws {
    try await withMemcached { port, _ in
      var options = StoreClient.Options()
      options.port = port
      options.connections = 1
      options.keysPerConnection = 1
      options.pauseMs = 0
      let client = StoreClient(options: options, namespace: nil)
      defer { client.stop() }
      try await client.waitUntilConnected(timeoutMs: 60_000)
      let vandal = try StoreServer.memcached.connect(
        address: "127.0.0.1", port: port, timeoutMs: 20_000)
      let until = MonotonicClock.nowMs + 30_000
      while client.report().wrongValues == 0, MonotonicClock.nowMs < until {
        try vandal.set([("godwit-0-0", Array("vandal".utf8))])
      }
      #expect(client.report().wrongValues > 0)
    }
  }

  @Test func timelineOfNothing() {
    let report = StoreClient.Report()
    #expect(report.timeline(fromUs: 5, toUs: 5) == [])
    #expect(report.timeline(fromUs: 0, toUs: 30_000) == [0, 0, 0, 0])
    #expect(report.longestGapMs(fromUs: 0, toUs: 30_000) == 30)
  }
}
