import Base
import Glibc
public import HostIO
import Synchronization

/// Clients outside the guest: each a persistent connection that sets and gets in a closed loop,
/// checks every value, and notes when each operation was done.
public final class StoreClient: Sendable {
  /// What the clients talk to, and what they do.
  public struct Options: Sendable, Equatable {
    /// Which key is used next.
    public enum Pattern: String, Sendable, CaseIterable { case uniform, zipf }

    public var address = "127.0.0.1"
    public var server = StoreServer.memcached
    /// nil: the server's own.
    public var port: UInt16?
    /// Tried in turn when a connection broke: where the guest is after a move without a bridge.
    public var otherPorts: [UInt16] = []
    public var connections = 4
    /// Pause after each operation, in milliseconds: the guest has other work too.
    public var pauseMs: UInt64 = 2
    /// No reply for so long is a broken connection, in milliseconds.
    public var timeoutMs: UInt64 = 30_000
    /// Bytes of a value, `32...16384`.
    public var valueBytes = 512
    public var keysPerConnection: UInt64 = 200
    public var pattern = Pattern.uniform
    /// Share of operations that store, `0...100`; the others read.
    public var setPercent: UInt64 = 50
    /// Keys of an operation, sent together, `1...64`.
    public var batch = 1
    /// Store every key once before the work begins.
    public var fillsFirst = false
    public init() {}
  }

  /// What all connections saw.
  public struct Report: Sendable, Equatable {
    /// Completed operations' times, in microseconds of the monotonic clock, ascending.
    public var completionsUs: [UInt64] = []
    public var brokenConnections: UInt64 = 0
    /// Values that were not what was stored last.
    public var wrongValues: UInt64 = 0
    /// The first failure in words.
    public var firstFailure: String?
    public var connected = 0

    public init() {}

    /// Operations per bucket of `bucketMs` from `fromUs` on.
    public func timeline(fromUs: UInt64, toUs: UInt64, bucketMs: UInt64 = 10) -> [UInt64] {
      guard fromUs < toUs, bucketMs > 0 else { return [] }
      let bucketUs = bucketMs * 1000
      var buckets = [UInt64](repeating: 0, count: Int(min((toUs - fromUs) / bucketUs + 1, 1 << 20)))
      for time in completionsUs where time >= fromUs && time < toUs {
        let index = Int((time - fromUs) / bucketUs)
        if index < buckets.count { buckets[index] += 1 }
      }
      return buckets
    }

    /// The longest time without a completed operation on any connection, in milliseconds.
    public func longestGapMs(fromUs: UInt64, toUs: UInt64) -> UInt64? {
      LongestGap.milliseconds(timesUs: completionsUs, fromUs: fromUs, toUs: toUs)
    }
  }

  /// Times kept per connection: over an hour at 1000 a second.
  static let completionCountMax = 4_000_000

  private let options: Options
  private let namespace: NetworkNamespace?
  private let reports: Mutex<[Report]>
  private let isStopped = Mutex(false)

  /// Starts the connections, inside `namespace` if there is one.
  public init(options: Options, namespace: NetworkNamespace?) {
    (self.options, self.namespace) = (options, namespace)
    reports = Mutex(Array(repeating: Report(), count: options.connections))
    for id in 0..<options.connections {
      _ = WorkerThread("client-\(id)") { [self] in run(id) }
    }
  }

  /// Ends the loops; the report stays.
  public func stop() { isStopped.withLock { $0 = true } }

  /// All connections' observations so far.
  public func report() -> Report {
    let parts = reports.withLock { $0 }
    var whole = Report()
    for part in parts {
      whole.completionsUs += part.completionsUs
      whole.brokenConnections += part.brokenConnections
      whole.wrongValues += part.wrongValues
      whole.connected += part.connected
      whole.firstFailure = whole.firstFailure ?? part.firstFailure
    }
    whole.completionsUs.sort()
    return whole
  }

  /// Waits until every connection has done an operation.
  public func waitUntilConnected(timeoutMs: UInt64) async throws {
    let startMs = MonotonicClock.nowMs
    while !reports.withLock({ $0.allSatisfy { !$0.completionsUs.isEmpty } }) {
      guard MonotonicClock.nowMs - startMs < timeoutMs else {
        let reason = report().firstFailure ?? "no answer"
        throw LabError("\(options.server.rawValue) in the guest was not reached: \(reason)")
      }
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  private func run(_ id: Int) {
    if let namespace {
      do { try namespace.enter() } catch { return fail(id, "\(error)", broken: false) }
    }
    var random = SplitMix64(seed: UInt64(id) &+ 1)
    var stored: [UInt64: UInt64] = [:]
    let port = options.port ?? options.server.port
    var ports = [port]
    while !isStopped.withLock({ $0 }) {
      var wasOpen = false
      do {
        let connection = try options.server.connect(
          address: options.address, port: ports[0], timeoutMs: options.timeoutMs)
        wasOpen = true
        try converse(connection, id, &random, &stored)
      } catch {
        // Before the first operation the guest may still be booting: no break.
        // A failed attempt to connect again is no further break.
        let hadWork = reports.withLock { !$0[id].completionsUs.isEmpty }
        fail(id, "\(error)", broken: hadWork && wasOpen)
        ports = Array(ports.dropFirst())
        if ports.isEmpty { ports = [port] + options.otherPorts }
        MonotonicClock.sleep(us: 20_000)
      }
    }
  }

  private func converse(
    _ connection: any StoreConnection, _ id: Int, _ random: inout SplitMix64,
    _ stored: inout [UInt64: UInt64]
  ) throws {
    if options.fillsFirst, stored.isEmpty {
      for first in stride(from: UInt64(0), to: options.keysPerConnection, by: 64) {
        let keys = Array(first..<min(first + 64, options.keysPerConnection))
        try store(keys, connection, id, &random, &stored)
        if isStopped.withLock({ $0 }) { return }
      }
    }
    let picker = KeyPicker(options)
    while !isStopped.withLock({ $0 }) {
      let keys = picker.next(&random)
      if random.next() % 100 < options.setPercent {
        try store(keys, connection, id, &random, &stored)
      } else {
        try read(keys, connection, id, stored)
      }
      let now = MonotonicClock.nowUs
      update(id) {
        $0.connected = 1
        if $0.completionsUs.count < Self.completionCountMax { $0.completionsUs.append(now) }
      }
      if options.pauseMs > 0 { MonotonicClock.sleep(us: options.pauseMs * 1000) }
    }
  }

  private func store(
    _ keys: [UInt64], _ connection: any StoreConnection, _ id: Int, _ random: inout SplitMix64,
    _ stored: inout [UInt64: UInt64]
  ) throws {
    var versions: [(key: UInt64, version: UInt64)] = []
    for key in keys {
      versions.append((key, random.next()))
      // Forgotten first: when the connection breaks now, nobody knows which version is there.
      stored[key] = nil
    }
    try connection.set(versions.map { (name(id, $0.key), value(id, $0.key, $0.version)) })
    for (key, version) in versions { stored[key] = version }
  }

  private func read(
    _ keys: [UInt64], _ connection: any StoreConnection, _ id: Int, _ stored: [UInt64: UInt64]
  ) throws {
    let found = try connection.get(keys.map { name(id, $0) })
    for key in keys {
      // The server may drop a value when it is full; a wrong one is never right. A version that is
      // not known was on its way when a connection broke.
      guard let version = stored[key], let value = found[name(id, key)],
        value != self.value(id, key, version)
      else { continue }
      update(id) { $0.wrongValues += 1 }
    }
  }

  private func name(_ id: Int, _ key: UInt64) -> String { "godwit-\(id)-\(key)" }

  private func value(_ id: Int, _ key: UInt64, _ version: UInt64) -> [UInt8] {
    var random = SplitMix64(seed: version ^ key &* 0x9E37 ^ UInt64(id))
    var bytes = [UInt8](repeating: 0, count: options.valueBytes)
    var word: UInt64 = 0
    for index in bytes.indices {
      if index % 8 == 0 { word = random.next() }
      bytes[index] = UInt8(truncatingIfNeeded: word)
      word >>= 8
    }
    return bytes
  }

  private func update(_ id: Int, _ body: (inout Report) -> Void) {
    reports.withLock { body(&$0[id]) }
  }

  private func fail(_ id: Int, _ text: String, broken: Bool) {
    update(id) {
      if broken { $0.brokenConnections += 1 }
      if broken || $0.completionsUs.isEmpty { $0.firstFailure = text }
    }
  }
}
