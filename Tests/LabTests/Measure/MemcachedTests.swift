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

  @Test(.enabled(if: program != nil, "skipped: memcached is not installed"))
  func clientsSeeOperationsAndADeath() async throws {
    try await withMemcached { port, memcached in
      var options = StoreClient.Options()
      options.port = port
      options.timeoutMs = 1000
      let client = StoreClient(options: options, namespace: nil)
      defer { client.stop() }
      try await client.waitUntilConnected(timeoutMs: 5000)
      let fromUs = MonotonicClock.nowUs
      try await Task.sleep(for: .milliseconds(300))
      let alive = client.report()
      #expect(alive.connected == options.connections)
      #expect(alive.brokenConnections == 0 && alive.wrongValues == 0)
      #expect(alive.completionsUs.count > 5)
      let buckets = alive.timeline(fromUs: fromUs, toUs: fromUs + 300_000)
      #expect(buckets.count == 31)
      #expect(buckets.reduce(0, +) > 0)
      #expect(alive.longestGapMs(fromUs: fromUs, toUs: fromUs + 250_000) != nil)

      await memcached.terminate()
      let deathUs = MonotonicClock.nowUs
      try await Task.sleep(for: .milliseconds(300))
      let dead = client.report()
      #expect(dead.brokenConnections >= UInt64(options.connections))
      #expect(dead.longestGapMs(fromUs: fromUs, toUs: deathUs + 300_000) ?? 0 >= 290)
    }
  }

  @Test(.enabled(if: program != nil, "skipped: memcached is not installed"))
  func aPausedServerIsAGapAndNoBreak() async throws {
    try await withMemcached { port, memcached in
      var options = StoreClient.Options()
      options.port = port
      let client = StoreClient(options: options, namespace: nil)
      defer { client.stop() }
      try await client.waitUntilConnected(timeoutMs: 5000)
      let fromUs = MonotonicClock.nowUs
      memcached.send(signal: SIGSTOP)
      try await Task.sleep(for: .milliseconds(400))
      memcached.send(signal: SIGCONT)
      try await Task.sleep(for: .milliseconds(300))
      let report = client.report()
      #expect(report.brokenConnections == 0 && report.wrongValues == 0)
      let gap = try #require(report.longestGapMs(fromUs: fromUs, toUs: MonotonicClock.nowUs))
      #expect(gap >= 350)
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
      try await client.waitUntilConnected(timeoutMs: 5000)
      let vandal = try StoreServer.memcached.connect(
        address: "127.0.0.1", port: port, timeoutMs: 1000)
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
