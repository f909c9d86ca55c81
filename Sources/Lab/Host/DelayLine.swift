import Glibc
import HostIO
import Synchronization

/// Distance: carries every frame between two interfaces of one namespace, each way, a fixed time after it came.
///
/// The frames are the kernel's own, with what it has put off to the network card (`PACKET_VNET_HDR`, packet(7)): the hosts'
/// TCP finds its windows and repeats by itself. What doesn't fit into the line's bounded queue is lost, as on any road.
final class DelayLine: Sendable {
  /// Largest frame, with the header that tells what is put off.
  private static let frameBytesMax = 70_000
  private static let receiveBytes: Int32 = 16 << 20
  /// Beside what a full line holds.
  private static let slackBytes: UInt64 = 8 << 20
  private static let lookMs: Int32 = 100

  private struct Frame {
    var dueUs: UInt64
    var bytes: [UInt8]
  }

  /// Frames under way in one direction, the oldest at `first`.
  private struct Way {
    var frames: [Frame] = []
    var first = 0
    var byteCount: UInt64 = 0
    var isOver = false

    mutating func take() -> Frame? {
      guard first < frames.count else { return nil }
      let frame = frames[first]
      frames[first].bytes = []
      first += 1
      byteCount -= UInt64(frame.bytes.count)
      if first == frames.count || first > 4096 {
        frames.removeFirst(first)
        first = 0
      }
      return frame
    }
  }

  private let isStopped = Mutex(false)
  private let ways = [Guarded(Way()), Guarded(Way())]
  private let latencyUs, byteCountMax: UInt64

  /// - Parameters:
  ///   - interfaces: two of `namespace`.
  ///   - latencyMs: each way.
  ///   - bytesPerSecond: what comes in at most.
  static func start(
    in namespace: NetworkNamespace, between interfaces: (String, String), latencyMs: UInt64,
    bytesPerSecond: UInt64
  ) async throws -> DelayLine {
    let sockets = try await WorkerThread.run("lab-distance") {
      try namespace.enter()
      return [try PacketSocket(interfaces.0), try PacketSocket(interfaces.1)]
    }
    return DelayLine(
      sockets, latencyUs: latencyMs * 1000,
      byteCountMax: Ratio.scale(bytesPerSecond, 2 * latencyMs, over: 1000) + slackBytes)
  }

  private init(_ sockets: [PacketSocket], latencyUs: UInt64, byteCountMax: UInt64) {
    (self.latencyUs, self.byteCountMax) = (latencyUs, byteCountMax)
    for (index, way) in ways.enumerated() {
      let (from, to) = (sockets[index], sockets[1 - index])
      _ = WorkerThread("lab-distance-rx") { [self] in collect(from, way) }
      _ = WorkerThread("lab-distance-tx") { [self] in deliver(to, way) }
    }
  }

  func stop() {
    isStopped.withLock { $0 = true }
    for way in ways { way.update { $0.isOver = true } }
  }

  private func collect(_ socket: PacketSocket, _ way: Guarded<Way>) {
    var room = [UInt8](repeating: 0, count: Self.frameBytesMax)
    while !isStopped.withLock({ $0 }) {
      guard let count = socket.receive(into: &room, timeoutMs: Self.lookMs) else { continue }
      let frame = Frame(dueUs: MonotonicClock.nowUs + latencyUs, bytes: Array(room[..<count]))
      way.update { way in
        guard way.byteCount + UInt64(count) <= byteCountMax else { return }
        way.byteCount += UInt64(count)
        way.frames.append(frame)
      }
    }
  }

  private func deliver(_ socket: PacketSocket, _ way: Guarded<Way>) {
    while true {
      let next = way.wait { way -> Frame?? in
        way.isOver ? .some(nil) : way.take().map(Optional.some)
      }
      guard let frame = next ?? nil else { return }
      let nowUs = MonotonicClock.nowUs
      if frame.dueUs > nowUs { MonotonicClock.sleep(us: frame.dueUs - nowUs) }
      socket.send(frame.bytes)
    }
  }

  /// All frames that come in at one interface (packet(7)); what is sent leaves there.
  private final class PacketSocket: Sendable {
    // Of <linux/if_packet.h> and <linux/if_ether.h>.
    private static let (family, allFrames): (UInt16, UInt16) = (17, 3)
    private static let (level, withHeader, ignoreOutgoing): (Int32, Int32, Int32) = (263, 15, 23)

    private let descriptor: Descriptor

    /// In the calling thread's namespace.
    init(_ interface: String) throws {
      let kind = Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
      let raw = socket(Int32(Self.family), kind, Int32(Self.allFrames.bigEndian))
      guard raw >= 0 else { throw SystemError("packet socket for \(interface)") }
      descriptor = Descriptor(owning: raw)
      let number = unsafe if_nametoindex(interface)
      guard number > 0 else { throw SystemError("interface \(interface)") }
      // struct sockaddr_ll: family, protocol, interface, and 12 bytes that bind(2) doesn't look at.
      var address: [UInt32] = [
        UInt32(Self.family) | UInt32(Self.allFrames.bigEndian) << 16, number, 0, 0, 0,
      ]
      // SAFETY: 20 bytes, as long as the call.
      let result = unsafe address.withUnsafeMutableBytes { bytes -> Int32 in
        guard let base = bytes.baseAddress else { return -1 }
        return unsafe bind(
          raw, base.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
      }
      guard result == 0 else { throw SystemError("packet socket on \(interface)") }
      try set(Self.level, Self.withHeader, 1)
      try set(Self.level, Self.ignoreOutgoing, 1)
      try set(SOL_SOCKET, SO_RCVBUFFORCE, DelayLine.receiveBytes)
    }

    private func set(_ level: Int32, _ name: Int32, _ value: Int32) throws {
      var value = value
      let size = socklen_t(MemoryLayout<Int32>.size)
      guard unsafe setsockopt(descriptor.raw, level, name, &value, size) == 0 else {
        throw SystemError("packet socket: option \(name)")
      }
    }

    /// Nil when nothing came in that time.
    func receive(into room: inout [UInt8], timeoutMs: Int32) -> Int? {
      var poller = pollfd(fd: descriptor.raw, events: Int16(POLLIN), revents: 0)
      guard unsafe poll(&poller, 1, timeoutMs) > 0 else { return nil }
      let raw = descriptor.raw
      // SAFETY: the array's own bytes, for the call alone.
      let count = unsafe room.withUnsafeMutableBytes {
        unsafe recv(raw, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT))
      }
      return count > 0 ? count : nil
    }

    /// A frame that the interface doesn't take is lost.
    func send(_ frame: [UInt8]) {
      let raw = descriptor.raw
      // SAFETY: the array's own bytes, for the call alone.
      _ = unsafe frame.withUnsafeBytes { unsafe Glibc.send(raw, $0.baseAddress, $0.count, 0) }
    }
  }
}
