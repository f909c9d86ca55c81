import Base
import BlockStore
import HostIO
import NBD
import Testing

/// Flush and FUA mean what they say: what a client was told is stable is there when the power is back.
@Suite struct DurabilityTests {
  static let byteCount = 1 << 20

  @Test(.timeLimit(.minutes(1)), arguments: UInt64(1)...20)
  func powerFailure(seed: UInt64) async throws {
    let store = VolatileStore(byteCount: Self.byteCount, isPrompt: seed % 2 == 0)
    let running = try RunningServer(store)
    let (expected, survived) = try await WorkerThread.run("test") {
      var random = SplitMix64(seed: seed)
      // A flush on one connection covers what was answered on the other.
      let clients = [try running.connect(), try running.connect()]
      defer { clients.forEach { $0.close() } }
      // Per 4 KiB block: contents that the block may have, oldest first; the first is stable.
      var allowed = [[UInt8]](repeating: [0], count: Self.byteCount / 4096)
      for step in 0..<60 {
        let client = clients[Int(random.next() % 2)]
        let first = Int(random.next() % 250)
        let blocks = first..<(first + Int(random.next() % 6) + 1)
        let value = UInt8(step + 1)
        switch random.next() % 10 {
        case 0:
          try client.flush()
          allowed = allowed.map { [$0.last!] }
        case 1:
          try client.put(
            [UInt8](repeating: value, count: blocks.count * 4096), at: UInt64(first) * 4096,
            durable: true)
          for block in blocks { allowed[block] = [value] }
        case 2:
          try client.zero(at: UInt64(first) * 4096, count: UInt64(blocks.count) * 4096, .durable)
          // Over this protocol it is a zero and a flush.
          for block in blocks { allowed[block].append(0) }
          allowed = allowed.map { [$0.last!] }
        default:
          try client.put(
            [UInt8](repeating: value, count: blocks.count * 4096), at: UInt64(first) * 4096)
          for block in blocks { allowed[block].append(value) }
        }
      }
      return (allowed, store.failPower(&random))
    }
    for (block, contents) in expected.enumerated() {
      let bytes = Set(survived[(block * 4096)..<(block * 4096 + 4096)])
      // A block that was written twice since may hold either, and older ones it held before.
      #expect(bytes.isSubset(of: contents), "block \(block), seed \(seed)")
    }
  }

  @Test(.timeLimit(.minutes(1))) func aFlushThatFailsIsTold() async throws {
    let store = VolatileStore(byteCount: 65536, isPrompt: true)
    let running = try RunningServer(store)
    try await WorkerThread.run("test") {
      let client = try running.connect()
      defer { client.close() }
      try client.put([1, 2, 3], at: 0)
      store.failFlushes()
      #expect(throws: StoreError(.inputOutput, "the flush failed")) { try client.flush() }
    }
    let lost = try await WorkerThread.run("drain") { running.server.drain(timeoutMs: 2000) }
    #expect(lost.count == 1)
  }
}
