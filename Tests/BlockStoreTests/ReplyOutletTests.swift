import Glibc
import HostIO
import Testing

@testable import BlockStore

/// Answers to a client that doesn't read them.
@Suite struct ReplyOutletTests {
  /// Takes nothing until it is let.
  private final class StuckConnection: ByteConnection {
    struct State {
      var isStuck = true
      var isWaitedFor = false
      var isShut = false
      var bytes: [UInt8] = []
    }
    let state = Guarded(State())
    var peer: String { "a client" }
    func shutdown() { state.update { $0.isShut = true } }
    func read(into buffer: UnsafeMutableRawBufferPointer) -> Int { 0 }
    func setTimeout(ms: UInt64) {}
    func writeAll(_ parts: inout [iovec]) throws(SystemError) {
      let bytes = parts.flatMap { part in
        Array(UnsafeRawBufferPointer(start: part.iov_base, count: part.iov_len))
      }
      state.update { $0.isWaitedFor = true }
      let isFine = state.wait { state -> Bool? in
        if state.isShut { return false }
        guard !state.isStuck else { return nil }
        state.bytes += bytes
        return true
      }
      guard isFine == true else { throw SystemError("write to \(peer)", code: EPIPE) }
    }
  }

  private func answer(_ number: UInt8, count: Int = 1000) -> [UInt8] {
    [UInt8](repeating: number, count: count)
  }

  private func send(_ number: UInt8, to outlet: ReplyOutlet) {
    let data = answer(number)
    data.withUnsafeBytes { outlet.send(answer(number, count: 16), $0) }
  }

  /// The first thread waits for the client; the others go on, and what they had to say comes in their order.
  @Test(.timeLimit(.minutes(1))) func itHoldsOneThread() async throws {
    let connection = StuckConnection()
    let outlet = ReplyOutlet(connection)
    let first = WorkerThread("first") { send(1, to: outlet) }
    _ = connection.state.wait { $0.isWaitedFor ? true : nil }
    try await WorkerThread.run("others") {
      for number in 2...9 as ClosedRange<UInt8> { send(number, to: outlet) }
    }
    #expect(connection.state.read { $0.bytes.isEmpty })
    connection.state.update { $0.isStuck = false }
    first.join()
    let expected = (1...9).flatMap { answer($0, count: 1016) }
    #expect(connection.state.read { $0.bytes } == expected)
  }

  /// Requests aren't read on while too much waits, and are again when the client reads, or has gone.
  @Test(.timeLimit(.minutes(1)), arguments: [true, false]) func roomIsBounded(reads: Bool)
    async throws
  {
    let connection = StuckConnection()
    let outlet = ReplyOutlet(connection)
    let first = WorkerThread("first") { send(1, to: outlet) }
    _ = connection.state.wait { $0.isWaitedFor ? true : nil }
    outlet.waitForRoom()
    let large = PageBuffer(byteCount: ReplyOutlet.waitingBytesMax)
    outlet.send(large, count: large.byteCount)
    let hasRoom = Guarded(false)
    let reader = WorkerThread("reader") {
      outlet.waitForRoom()
      hasRoom.update { $0 = true }
    }
    #expect(!hasRoom.read { $0 })
    if reads { connection.state.update { $0.isStuck = false } } else { outlet.fail() }
    reader.join()
    first.join()
    #expect(hasRoom.read { $0 })
    #expect(connection.state.read { $0.bytes.count } == (reads ? 1016 + large.byteCount : 0))
    // After a failure everything is taken, and dropped.
    if !reads {
      send(2, to: outlet)
      #expect(connection.state.read { $0.bytes.isEmpty })
    }
  }
}
