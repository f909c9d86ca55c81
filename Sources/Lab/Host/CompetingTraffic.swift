import Base
import HostIO
import Synchronization

/// Traffic of others on the migration link, from the source to the destination: one TCP connection that sends as much
/// as it is told to, and less where the link doesn't let it.
final class CompetingTraffic: Sendable {
  static let port: UInt16 = 5201
  private static let pieceBytes = 16 << 10
  /// What it may send at once after it was held up.
  private static let burstBytes: UInt64 = 256 << 10
  private static let connectMs: UInt64 = 5000
  /// TCP needs a moment to find its pace.
  private static let rampMs = 300

  private let received = Mutex<UInt64>(0)
  private let isStopped = Mutex(false)
  private let sockets: [StreamSocket]

  /// Starts it; nil: nothing is asked for.
  static func start(_ hosts: HostPair, _ rate: ByteRate?) async throws -> CompetingTraffic? {
    guard let rate else { return nil }
    guard hosts.kind == .namespaces else {
      throw LabError("competing traffic needs a link between namespaces: run as root")
    }
    let address = hosts.address(.destination)
    let (here, there) = (hosts.namespace(.source), hosts.namespace(.destination))
    let listener = try await WorkerThread.run("lab-traffic") {
      try there.enter()
      return try TCPSocket.listen(host: address, port: port)
    }
    let sender = try await WorkerThread.run("lab-traffic") {
      try here.enter()
      return try TCPSocket.connect(host: address, port: port, timeoutMs: connectMs)
    }
    let receiver = try await WorkerThread.run("lab-traffic") {
      try listener.accept(timeoutMs: connectMs)
    }
    guard let receiver else { throw LabError("competing traffic: the link carries nothing") }
    let traffic = CompetingTraffic(sender, receiver, bytesPerSecond: rate.bytesPerSecond)
    try await Task.sleep(for: .milliseconds(rampMs))
    return traffic
  }

  private init(_ sender: StreamSocket, _ receiver: StreamSocket, bytesPerSecond: UInt64) {
    sockets = [sender, receiver]
    _ = WorkerThread("lab-traffic-rx") { [self] in receive(receiver) }
    _ = WorkerThread("lab-traffic-tx") { [self] in send(sender, bytesPerSecond) }
  }

  /// What has arrived so far, headers left out.
  var bytes: UInt64 { received.withLock { $0 } }

  func stop() {
    isStopped.withLock { $0 = true }
    for socket in sockets { socket.shutdown() }
  }

  private func send(_ socket: StreamSocket, _ bytesPerSecond: UInt64) {
    let piece = [UInt8](repeating: 0x5A, count: Self.pieceBytes)
    var (allowed, lastUs): (UInt64, UInt64) = (0, MonotonicClock.nowUs)
    while !isStopped.withLock({ $0 }) {
      let nowUs = MonotonicClock.nowUs
      allowed = min(
        allowed + Ratio.scale(bytesPerSecond, nowUs - lastUs, over: 1_000_000), Self.burstBytes)
      lastUs = nowUs
      guard allowed >= UInt64(piece.count) else {
        MonotonicClock.sleep(us: 1000)
        continue
      }
      allowed -= UInt64(piece.count)
      // SAFETY: a view of the array's own bytes, which live as long as the call.
      guard (try? unsafe socket.writeAll(piece.span.bytes)) != nil else { return }
    }
  }

  private func receive(_ socket: StreamSocket) {
    var room = [UInt8](repeating: 0, count: Int(Self.burstBytes))
    while true {
      // SAFETY: the buffer lives for the call, and its own count bounds it.
      let count = unsafe room.withUnsafeMutableBytes {
        (try? unsafe socket.read(into: $0)) ?? 0
      }
      guard count > 0 else { return }
      received.withLock { $0 += UInt64(count) }
    }
  }
}
