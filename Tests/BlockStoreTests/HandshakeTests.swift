import Base
import Glibc
import HostIO
import NBD
import Testing

@testable import BlockStore

/// Peers that say a little now and then: each read goes on, and no handshake comes to its end.
@Suite(.timeLimit(.minutes(1))) struct HandshakeTests {
  private static let greeting: UInt64 = 0x4e42_444d_4147_4943
  private static let option: UInt64 = 0x4948_4156_454f_5054
  private static let optionReply: UInt64 = 0x0003_e889_0455_65a9

  /// Sends a byte every 50 ms until the other end has had enough.
  private static func drip(_ bytes: [UInt8], over socket: StreamSocket) {
    for byte in bytes {
      guard (try? socket.writeAll([byte].span.bytes)) != nil else { return }
      MonotonicClock.sleep(us: 50_000)
    }
  }

  @Test func aServerThatDrips() async throws {
    let folder = try ScratchFolder()
    let listener = try UnixSocket.listen(path: folder.path + "/s")
    var greeting: [UInt8] = []
    greeting.appendBE(Self.greeting)
    greeting.appendBE(Self.option)
    greeting.appendBE(UInt16(3))
    // The beginning of an answer with a long text.
    var answer: [UInt8] = []
    answer.appendBE(Self.optionReply)
    for field: UInt32 in [10, 0x8000_0001, 4000] { answer.appendBE(field) }
    let bytes = greeting + answer + [UInt8](repeating: 32, count: 4000)
    let server = WorkerThread("drip") {
      guard let socket = try? listener.accept(timeoutMs: 20_000) else { return }
      Self.drip(bytes, over: socket)
    }
    let error = await #expect(throws: (any Error).self) {
      try await WorkerThread.run("client") {
        _ = try RemoteHandshake.run(
          UnixSocket.connect(path: folder.path + "/s"), "disk", nil, limitMs: 700)
      }
    }
    #expect((error as? SystemError)?.code == ETIMEDOUT, "\(String(describing: error))")
    try await WorkerThread.run("join") { server.join() }
  }

  @Test func aClientThatDrips() async throws {
    var options = DiskServer.Options()
    // Enough for one that doesn't, on a busy machine, too.
    options.handshakeMs = 4000
    let running = try RunningServer(
      [ServedDisk(name: "disk", store: VolatileStore(byteCount: 1 << 20, isPrompt: false))], options
    )
    var bytes: [UInt8] = []
    bytes.appendBE(UInt32(3))
    bytes.appendBE(Self.option)
    // An option that nobody knows, with some data.
    for field: UInt32 in [99, 4000] { bytes.appendBE(field) }
    let all = bytes + [UInt8](repeating: 0, count: 4000)
    try await WorkerThread.run("client") {
      let socket = try UnixSocket.connect(path: running.socket)
      Self.drip(all, over: socket)
    }
    // It let go of us, and of nobody else.
    let disk = try await WorkerThread.run("other") { () throws -> UInt64 in
      let store = try running.connect()
      defer { store.close() }
      return store.byteCount
    }
    #expect(disk == 1 << 20)
  }
}
