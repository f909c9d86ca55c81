import DiskStrategy
import Glibc
import HostIO
import NBD
import Synchronization
import Testing

@testable import BlockStore

/// Connections over which disks move: what comes of them once they are given up.
@Suite struct MoverTests {
  /// What was on its way when a connection was given up arrives behind what the next one has brought.
  @Test(.timeLimit(.minutes(2))) func nothingComesLate() async throws {
    let rig = try MoveRig()
    let proxy = try LateProxy(to: rig.target.server)
    defer { proxy.close() }
    try await WorkerThread.run("move") {
      try rig.movable.move(to: proxy.destination, rig.wish(.mirror, .wait))
    }
    try await untilAllIsThere(rig)
    let client = try rig.source.connect()
    let (old, new) = ([UInt8](repeating: 1, count: 4096), [UInt8](repeating: 2, count: 4096))
    try await WorkerThread.run("guest") {
      proxy.keep()
      let write = WorkerThread("write") { try? client.put(old, at: 8192) }
      proxy.untilKept(4096)
      proxy.cut()
      write.join()
    }
    try await rig.until("there again") { $0.connectionCount > 1 && $0.phase == .mirroring }
    try await WorkerThread.run("guest") {
      try client.put(new, at: 8192)
      client.close()
    }
    try await untilAllIsThere(rig)
    #expect(try rig.target.store.bytes(at: 8192, count: 4096) == new)
    try await WorkerThread.run("late") { proxy.letGo() }
    #expect(try rig.target.store.bytes(at: 8192, count: 4096) == new)
    try rig.movable.finishMove(.copy)
    try await rig.until("copied") { $0.phase == .copied }
    #expect(try difference(rig.bytes(of: rig.target.store), rig.bytes(of: rig.store)) == nil)
  }

  private func untilAllIsThere(_ rig: MoveRig) async throws {
    try await rig.until("the same") { $0.phase == .mirroring && $0.neededBytes == 0 }
    while try rig.movable.status(
      of: NBDExtent.needed, at: 0, count: UInt64(MoveRig.byteCount), extentsMax: 4096
    ).contains(where: { $0.flags != 0 }) { try await Task.sleep(for: .milliseconds(20)) }
  }

  private func connect(_ server: RunningServer, moves: Bool = true) throws -> RemoteStore {
    try RemoteStore(
      over: UnixSocket.connect(path: server.socket), exportName: "disk", isReadOnly: false,
      contexts: moves ? [NBDExtent.mover] : [])
  }

  /// What an earlier connection's write still does is waited for, and what stands behind it isn't begun.
  @Test(.timeLimit(.minutes(1))) func earlierOnesEndFirst() async throws {
    let store = GatedStore(byteCount: 1 << 20)
    var options = DiskServer.Options()
    options.threadCount = 1
    let server = try RunningServer([ServedDisk(name: "disk", store: store)], options)
    try await WorkerThread.run("test") {
      let other = try connect(server, moves: false)
      let first = try connect(server)
      #expect(first.contexts.contains(NBDExtent.mover))
      store.open(false)
      for place in 0..<4 {
        let bytes: [UInt8] = [1]
        _ = try bytes.withUnsafeBytes { try first.startWrite($0, at: UInt64(place) << 12) }
      }
      store.untilEntered(1)
      let second = Guarded<RemoteStore?>(nil)
      let connecting = WorkerThread("second") {
        let made = try? connect(server)
        second.update { $0 = made }
      }
      while !first.isBroken { MonotonicClock.sleep(us: 1000) }
      #expect(second.read { $0 == nil })
      store.open(true)
      connecting.join()
      let mover = try #require(second.read { $0 })
      #expect(store.entered == 1)
      try mover.put([2], at: 0)
      #expect(try mover.bytes(at: 0, count: 1) == [2] && mover.bytes(at: 4096, count: 1) == [0])
      // Whoever doesn't move a disk here has nothing to do with that.
      #expect(try other.bytes(at: 0, count: 1) == [2])
      // Of blocks it says nothing.
      #expect(
        try mover.status(of: NBDExtent.mover, at: 0, count: 8192, extentsMax: 8)
          == [NBDExtent(length: 8192, flags: 0)])
      mover.close()
      other.close()
    }
  }

  /// One that comes to an agreement late was given up before: it ends none that began behind it.
  @Test(.timeLimit(.minutes(1))) func theLastOneStays() async throws {
    let server = try RunningServer(VolatileStore(byteCount: 1 << 16, isPrompt: true))
    try await WorkerThread.run("test") {
      let early = try UnixSocket.connect(path: server.socket)
      while server.server.connectionCount < 1 { MonotonicClock.sleep(us: 1000) }
      let last = try connect(server)
      #expect(throws: (any Error).self) {
        try RemoteStore(
          over: early, exportName: "disk", isReadOnly: false, contexts: [NBDExtent.mover])
      }
      try last.put([3], at: 0)
      #expect(try last.bytes(at: 0, count: 1) == [3])
      last.close()
    }
  }

  /// A connection whose other end owes answers is reset, so that its system has nothing left to send; one that owes none
  /// ends in order.
  @Test(.timeLimit(.minutes(1)), arguments: [true, false])
  func whatIsOwedIsTakenBack(isOwed: Bool) async throws {
    let store = GatedStore(byteCount: 1 << 20)
    let server = DiskServer([ServedDisk(name: "disk", store: store)])
    let listener = try TCPSocket.listen(host: "127.0.0.1", port: 0)
    let port = try #require(TCPSocket.localPort(of: listener))
    let end = Guarded<Int32?>(nil)
    server.serve(listener) { socket in EndWatcher(socket, end) }
    try await WorkerThread.run("test") {
      let lingers = Guarded<Bool?>(nil)
      let socket = try TCPSocket.connect(host: "127.0.0.1", port: port, timeoutMs: 5000)
      let client = try RemoteStore(
        over: socket, exportName: "disk", isReadOnly: false,
        secure: { socket in
          lingers.update { $0 = !Self.isAbortive(socket) }
          return socket
        }, silence: .destination)
      // Nor has it anything left when this process dies.
      #expect(lingers.read { $0 } == false)
      try client.put([1], at: 0)
      if isOwed {
        store.open(false)
        let bytes: [UInt8] = [2]
        _ = try bytes.withUnsafeBytes { try client.startWrite($0, at: 0) }
        store.untilEntered(2)
      }
      client.close()
      #expect(Self.isAbortive(socket) == isOwed)
      if isOwed {
        // The server, which waits for its disk, hasn't ended it: but it has no other end any more.
        #expect(!socket.isLoopback)
      } else {
        let code = end.wait { $0 }
        #expect(code == 0)
      }
      store.open(true)
      _ = server.drain(timeoutMs: 5000)
    }
  }

  private static func isAbortive(_ socket: StreamSocket) -> Bool {
    var (value, size) = (linger(), socklen_t(MemoryLayout<linger>.size))
    _ = getsockopt(socket.raw, SOL_SOCKET, SO_LINGER, &value, &size)
    return value.l_onoff != 0 && value.l_linger == 0
  }
}

/// Notes how a connection ended: 0, or an errno.
private final class EndWatcher: ByteConnection {
  private let inner: StreamSocket
  private let end: Guarded<Int32?>

  init(_ inner: StreamSocket, _ end: Guarded<Int32?>) { (self.inner, self.end) = (inner, end) }

  var peer: String { inner.peer }
  func shutdown() { inner.shutdown() }
  func setTimeout(ms: UInt64) { inner.setTimeout(ms: ms) }
  func writeAll(_ parts: inout [iovec]) throws(SystemError) { try inner.writeAll(&parts) }
  func read(into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int {
    do throws(SystemError) {
      let count = try inner.read(into: buffer)
      if count == 0 { end.update { $0 = 0 } }
      return count
    } catch {
      end.update { $0 = error.code }
      throw error
    }
  }
}

/// A disk in memory whose writes wait as long as it is closed.
private final class GatedStore: DiskStore {
  private struct State: Sendable {
    var isOpen = true
    var entered = 0
  }
  private let inner: VolatileStore
  private let state = Guarded(State())

  init(byteCount: Int) { inner = VolatileStore(byteCount: byteCount, isPrompt: false) }

  func open(_ isSo: Bool) { state.update { $0.isOpen = isSo } }

  /// Writes that were begun.
  var entered: Int { state.read { $0.entered } }

  func untilEntered(_ count: Int) {
    while state.wait(timeoutMs: 1000, until: { $0.entered >= count ? true : nil }) == nil {}
  }

  var byteCount: UInt64 { inner.byteCount }
  var traits: DiskTraits { inner.traits }
  func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) {
    inner.read(at: offset, into: target)
  }
  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool) {
    state.update { $0.entered += 1 }
    while state.wait(timeoutMs: 1000, until: { $0.isOpen ? true : nil }) == nil {}
    inner.write(bytes, at: offset, durable: durable)
  }
  func flush() throws(StoreError) { try inner.flush() }
  func zero(at offset: UInt64, count: UInt64, _ options: ZeroOptions) {
    inner.zero(at: offset, count: count, options)
  }
  func trim(at offset: UInt64, count: UInt64) { inner.trim(at: offset, count: count) }
  func status(at offset: UInt64, count: UInt64, extentsMax: Int) -> [NBDExtent] {
    inner.status(at: offset, count: count, extentsMax: extentsMax)
  }
}
