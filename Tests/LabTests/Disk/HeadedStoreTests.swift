import BlockStore
import Glibc
import HostIO
import NBD
import Simulator
import Testing

@testable import Lab

/// A drive with a head in real time. How long something takes is bounded from below alone: nobody sleeps too little.
@Suite struct HeadedStoreTests {
  private let path = "/tmp/godwit-drive-\(UInt64.random(in: 0...(.max)))"

  private func store(_ body: (HeadedStore) throws -> Void) throws {
    try DiskImage.makeEmpty(path, byteCount: 64 << 20)
    defer { _ = path.withCString { unlink($0) } }
    try body(HeadedStore(FileStore(path: path), .hdd, seed: 3))
  }

  private func us(_ body: () throws -> Void) rethrows -> UInt64 {
    let startUs = MonotonicClock.nowUs
    try body()
    return MonotonicClock.nowUs - startUs
  }

  @Test func whatIsWrittenIsRead() throws {
    try store { store in
      store.begin()
      #expect(store.byteCount == 64 << 20 && !store.traits.isPrompt)
      var bytes = [UInt8](repeating: 7, count: 8192)
      try bytes.withUnsafeBytes { try store.write($0, at: 4096, durable: true) }
      bytes = Array(repeating: 0, count: 8192)
      try store.zero(at: 8192, count: 4096, .durable)
      try bytes.withUnsafeMutableBytes { try store.read(at: 4096, into: $0) }
      #expect(bytes[..<4096].allSatisfy { $0 == 7 } && bytes[4096...].allSatisfy { $0 == 0 })
      #expect(throws: StoreError.self) { try store.zero(at: 0, count: 4096, .fast) }
      try store.trim(at: 0, count: 4096)
      try store.flush()
      #expect(try store.status(at: 0, count: 4096, extentsMax: 1).map(\.length) == [4096])
    }
  }

  /// Across the disk and back a request takes 14 ms of seeking at least, one behind the other nothing of that; and before
  /// it begins to count nothing takes any time of the drive's.
  @Test(.timeLimit(.minutes(1))) func seeksTakeTheirTime() throws {
    try store { store in
      var bytes = [UInt8](repeating: 0, count: 4096)
      let end = store.byteCount - 4096
      func read(_ offset: UInt64) throws {
        try bytes.withUnsafeMutableBytes { try store.read(at: offset, into: $0) }
      }
      for _ in 0..<200 { for offset in [0, end] { try read(offset) } }
      store.begin()
      let far = try us { for _ in 0..<5 { for offset in [end, 0] { try read(offset) } } }
      #expect(far > 10 * 13_900)
      // The first of them begins where the last one ended, and 64 MiB take 0.44 s at the platter's rate.
      let whole = PageBuffer(byteCount: 1 << 20)
      let near = try us {
        for offset in stride(from: UInt64(4096), to: 33 << 20, by: 1 << 20) {
          try store.read(at: offset, into: whole.part(0, whole.byteCount))
        }
      }
      #expect(near > 33 * 6900)
    }
  }

  /// Requests that come together are carried out one after the other.
  @Test(.timeLimit(.minutes(1))) func oneHead() throws {
    try store { store in
      store.begin()
      let took = us {
        let threads = (0..<8).map { number in
          WorkerThread("drive-\(number)") {
            var bytes = [UInt8](repeating: 0, count: 4096)
            let offset = UInt64(number % 2) * (60 << 20)
            try? bytes.withUnsafeMutableBytes { try store.read(at: offset, into: $0) }
          }
        }
        for thread in threads { thread.join() }
      }
      // All but the first settle at least.
      #expect(took > 7 * 1000)
    }
  }
}
