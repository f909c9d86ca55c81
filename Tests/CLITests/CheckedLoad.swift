import Base
import BlockStore
import Glibc
import HostIO

@testable import Agent

/// What a disk has to hold: what was in it, and every write that was answered.
///
/// A server that is killed loses nothing of that, flushed or not: it is in the kernel's page cache. What had no answer
/// may be there or not.
struct ExpectedDisk: Sendable {
  private(set) var bytes: [UInt8]
  /// What was written and answered.
  private(set) var written: [Range<Int>] = []
  /// A write without an answer.
  private var open: Range<Int>?
  /// What was wrong, of what a client has seen.
  var problem: String?

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  mutating func begin(_ range: Range<Int>) { open = range }

  mutating func end(_ range: Range<Int>, _ content: [UInt8]) {
    open = nil
    bytes.replaceSubrange(range, with: content)
    written.append(range)
  }

  /// Reads back from a server; returns what is wrong.
  ///
  /// - Parameter whole: the whole disk; otherwise what was written alone, which fetches nothing of a disk that is pulled.
  mutating func check(at socket: String, whole: Bool) async throws -> String? {
    let before = self
    let (after, found) = try await WorkerThread.run("look") {
      var after = before
      let store = try RemoteStore(
        over: UnixSocket.connect(path: socket), exportName: "x", isReadOnly: false)
      defer { store.close() }
      if let open = after.open {
        after.bytes.replaceSubrange(open, with: try Self.read(store, open))
        after.open = nil
      }
      let count = after.bytes.count
      let ranges =
        whole
        ? stride(from: 0, to: count, by: 1 << 20).map { $0..<min($0 + (1 << 20), count) }
        : after.written
      for range in ranges where !after.holds(range, try Self.read(store, range)) {
        return (after, "other bytes in \(range)" as String?)
      }
      return (after, nil)
    }
    self = after
    return problem ?? found
  }

  /// Whether these are the bytes of a range. Tests are not optimized: no loop over bytes.
  func holds(_ range: Range<Int>, _ content: [UInt8]) -> Bool {
    guard content.count == range.count else { return false }
    return bytes.withUnsafeBytes { bytes in
      content.withUnsafeBytes { content in
        guard let (a, b) = bytes.baseAddress.flatMap({ a in content.baseAddress.map { (a, $0) } })
        else { return true }
        return memcmp(a + range.lowerBound, b, range.count) == 0
      }
    }
  }

  private static func read(_ store: RemoteStore, _ range: Range<Int>) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: range.count)
    try bytes.withUnsafeMutableBytes { try store.read(at: UInt64(range.lowerBound), into: $0) }
    return bytes
  }
}

/// A client that writes, and checks what it reads, until its server is gone or it is stopped.
final class CheckedLoad: Sendable {
  private let result = Guarded<ExpectedDisk?>(nil)
  private let stops = Guarded(false)
  private let answers = Guarded((count: 0, longestUs: UInt64(0)))

  /// - Parameters:
  ///   - disk: 128 KiB or more, without what is spared.
  ///   - sparedBytes: at its end, which are neither read nor written to.
  init(
    at socket: String, _ disk: ExpectedDisk, seed: UInt64, sparedBytes: Int = 0
  ) async throws {
    let client = try await WorkerThread.run("connect") {
      try RemoteStore(over: UnixSocket.connect(path: socket), exportName: "x", isReadOnly: false)
    }
    _ = WorkerThread("load") { [self] in
      var (random, disk) = (SplitMix64(seed: seed), disk)
      while !stops.read({ $0 }), disk.problem == nil {
        let startUs = MonotonicClock.nowUs
        guard Self.step(client, &disk, &random, sparedBytes) else { break }
        let tookUs = MonotonicClock.nowUs - startUs
        answers.update { $0 = ($0.count + 1, max($0.longestUs, tookUs)) }
        MonotonicClock.sleep(us: 300)
      }
      client.close()
      let last = disk
      result.update { $0 = last }
    }
  }

  /// false: the server is gone.
  private static func step(
    _ client: RemoteStore, _ disk: inout ExpectedDisk, _ random: inout SplitMix64,
    _ sparedBytes: Int
  ) -> Bool {
    var place = Int(random.next() % UInt64(disk.bytes.count - sparedBytes - 65536))
    if random.next() % 2 == 0 { place %= 1 << 20 }
    if random.next() % 4 != 0 { place &= ~4095 }
    let count = Int(1 + random.next() % 12) * 4096 - Int(random.next() % 2) * 100
    let range = place..<(place + count)
    var bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: random.next()), count: count)
    do {
      if random.next() % 2 == 0 {
        disk.begin(range)
        try bytes.withUnsafeBytes { try client.write($0, at: UInt64(place), durable: false) }
        disk.end(range, bytes)
      } else {
        try bytes.withUnsafeMutableBytes { try client.read(at: UInt64(place), into: $0) }
        if !disk.holds(range, bytes) { disk.problem = "other bytes at \(place)" }
      }
      return true
    } catch {
      // Otherwise the server is there, and has refused it.
      if !client.isBroken { disk.problem = "\(range): \(error)" }
      return false
    }
  }

  /// The longest request that was answered since this was asked last, in microseconds.
  func takeLongestUs() -> UInt64 {
    answers.update { answers in
      defer { answers.longestUs = 0 }
      return answers.longestUs
    }
  }

  /// Requests that were answered.
  var answerCount: Int { answers.read { $0.count } }

  func stop() { stops.update { $0 = true } }

  /// Waits for the end.
  func end() async -> ExpectedDisk {
    let end = try? await WorkerThread.run("load-end") { [self] in
      while true { if let end = result.wait(timeoutMs: 1000, until: { $0 }) { return end } }
    }
    guard let end else {
      var none = ExpectedDisk([])
      none.problem = "no end"
      return none
    }
    return end
  }
}
