import Base
import Foundation
import Glibc
import HostIO
import QEMUStream
import Testing
import Wire

@testable import Agent

/// Connected sockets, without a QEMU or an agent behind them.
enum Sockets {
  static func unixPair() throws -> (StreamSocket, StreamSocket) {
    var pair: [Int32] = [0, 0]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0 else {
      throw SystemError("socketpair")
    }
    return (
      StreamSocket(owning: pair[0], peer: "near end"),
      StreamSocket(owning: pair[1], peer: "far end")
    )
  }

  static func tcpPair() throws -> (StreamSocket, StreamSocket) {
    let listener = try TCPSocket.listen(host: "127.0.0.1", port: 0)
    let port = try #require(TCPSocket.localPort(of: listener))
    let near = try TCPSocket.connect(host: "127.0.0.1", port: port, timeoutMs: 20_000)
    let far = try #require(try listener.accept(timeoutMs: 20_000))
    return (near, TCPSocket.tuned(far))
  }
}

/// What the threads of a relay said so far.
final class Events<Event: Sendable>: Sendable {
  private let events = Guarded<[Event]>([])

  func add(_ event: Event) { events.update { $0.append(event) } }
  var all: [Event] { events.read { $0 } }

  /// What `pick` finds first; nil when nothing came within `timeoutMs`.
  func first<R>(timeoutMs: UInt64 = 60_000, where pick: (Event) -> R?) -> R? {
    events.wait(timeoutMs: timeoutMs) { events in
      for event in events { if let found = pick(event) { return found } }
      return nil
    }
  }
}

extension Events where Event == DestinationRelay.Event {
  func failure(timeoutMs: UInt64 = 60_000) -> RelayFailure? {
    first(timeoutMs: timeoutMs) { if case .failed(let failure) = $0 { failure } else { nil } }
  }
}

extension Events where Event == SourceRelay.Event {
  func failure(timeoutMs: UInt64 = 60_000) -> RelayFailure? {
    first(timeoutMs: timeoutMs) { if case .failed(let failure) = $0 { failure } else { nil } }
  }
  var hasEnded: Bool {
    all.contains { if case .stream(.ended) = $0 { true } else { false } }
  }
  var handover: String? {
    for case .stream(.handedOver(let reason)) in all { return reason }
    return nil
  }
}

/// The destination's half: control lane and data lanes in, a socket in place of QEMU.
final class DestinationRig: Sendable {
  let relay: DestinationRelay
  let link: PeerLink
  let events = Events<DestinationRelay.Event>()
  /// The ends that a source holds.
  let control: StreamSocket
  let lanes: [StreamSocket]
  /// What QEMU would read.
  let qemu: StreamSocket
  /// How the control lane ended.
  let ends = Events<RelayFailure?>()

  /// - Parameter connect: makes connections, so that a test can break them.
  init(
    laneCount: Int = 1, shared: [String: SharedFile] = [:], windowBytes: UInt64 = 64 << 20,
    snapshot: HeldSnapshot? = nil, vault: HeldVault? = nil, images: HeldImages? = nil,
    gang: HeldGang? = nil,
    connect: () throws -> (StreamSocket, StreamSocket) = Sockets.tcpPair
  ) throws {
    let (near, far) = try connect()
    let (relayEnd, qemuEnd) = try Sockets.unixPair()
    (control, qemu) = (near, qemuEnd)
    let link = PeerLink(far)
    self.link = link
    let events = self.events
    let relay = DestinationRelay(
      qemu: relayEnd, control: link.lane, shared: shared, windowBytes: windowBytes,
      snapshot: snapshot, vault: vault, images: images, gang: gang
    ) { events.add($0) }
    self.relay = relay
    link.setRelay { (type, payload) throws(RelayFailure) in try relay.arrived(type, payload) }
    link.setLayout { (blocks, id) throws(RelayFailure) in
      try relay.setLayout(blocks, sectionID: id)
    }
    relay.start()
    let ends = self.ends
    link.start(backlog: { 0 }) { if case .ended(let failure) = $0 { ends.add(failure) } }
    var lanes: [StreamSocket] = []
    for number in 0..<laneCount {
      let (near, far) = try connect()
      relay.addLane(far, number: UInt16(number + 1))
      lanes.append(near)
    }
    self.lanes = lanes
  }

  func stop() {
    relay.stop()
    link.close()
  }
}

/// The whole data path: a socket in place of the source's QEMU, one in place of the destination's.
final class RelayRig: Sendable {
  let destination: DestinationRig
  let source: SourceRelay
  let events = Events<SourceRelay.Event>()
  let qemu: StreamSocket
  /// How the source's control lane ended.
  let linkEnds = Events<RelayFailure?>()
  let link: PeerLink

  init(
    laneCount: Int = 4, sourceShared: [String: SharedFile] = [:],
    destinationShared: [String: SharedFile] = [:], memoryLimit: UInt64 = 256 << 20,
    compaction: CompactionPlan? = nil, held: HeldPages? = nil, snapshot: HeldSnapshot? = nil,
    vault: HeldVault? = nil, images: HeldImages? = nil, gang: HeldGang? = nil,
    reconnect: (@Sendable () throws -> (StreamSocket, StreamSocket))? = nil
  ) throws {
    let destination = try DestinationRig(
      laneCount: laneCount, shared: destinationShared, snapshot: snapshot, vault: vault,
      images: images, gang: gang, connect: reconnect ?? Sockets.tcpPair)
    self.destination = destination
    let recovery = reconnect.map { reconnect in
      LaneRecovery(
        patienceMs: { 60_000 },
        dial: { role, lane in
          let (near, far) = try reconnect()
          if role == .data {
            destination.relay.addLane(far, number: lane)
          } else {
            destination.link.lane.attach(far)
          }
          return near
        })
    }
    let (near, far) = try Sockets.unixPair()
    qemu = near
    link = PeerLink(destination.control)
    let queue = SendQueue(windowMax: 64 << 20, bandwidth: nil)
    let events = self.events
    source = SourceRelay(
      qemu: far, control: link.lane, lanes: destination.lanes,
      queue: queue, memoryLimit: memoryLimit, shared: sourceShared,
      compaction: compaction, held: held, recovery: recovery
    ) { events.add($0) }
    let (linkEnds, source) = (self.linkEnds, self.source)
    link.setRelay { (type, payload) throws(RelayFailure) in try source.arrived(type, payload) }
    if let recovery {
      link.lane.setRecovery(recovery)
      destination.link.lane.setRecovery(LaneRecovery(patienceMs: { 60_000 }, dial: nil))
    }
    link.start(backlog: { 0 }) { inbound in
      switch inbound {
      case .ended(let failure): linkEnds.add(failure)
      case .connection(isUp: true): source.renewLanes()
      default: break
      }
    }
    source.start()
  }

  /// Writes `bytes` as QEMU does, on a thread of its own; then closes when asked to.
  func feed(_ bytes: [UInt8], closing: Bool) -> WorkerThread {
    let qemu = qemu
    return WorkerThread("test-qemu-tx") {
      _ = try? qemu.writeAll(bytes.span.bytes)
      if closing { shutdownWrite(qemu) }
    }
  }

  func stop() {
    link.lane.fail(.stopped)
    source.stop()
    destination.stop()
  }
}

/// Reads a socket to its end on a thread of its own.
final class Collector: Sendable {
  private let collected = Guarded<(bytes: [UInt8], ended: Bool)>(([], false))
  /// While false nothing is read.
  let isReading: Guarded<Bool>
  private let thread = Guarded<WorkerThread?>(nil)

  init(_ socket: StreamSocket, reading: Bool = true) {
    isReading = Guarded(reading)
    let (collected, isReading) = (collected, isReading)
    let worker = WorkerThread("test-qemu-rx") {
      let buffer = PageBuffer(byteCount: 1 << 20)
      while true {
        _ = isReading.wait { $0 ? true : nil }
        guard let count = try? socket.read(into: buffer.part(0, buffer.byteCount)), count > 0
        else { break }
        collected.update { $0.bytes.append(contentsOf: buffer.span(count)) }
      }
      collected.update { $0.ended = true }
    }
    thread.update { $0 = worker }
  }

  /// What came so far.
  var bytes: [UInt8] { collected.read { $0.bytes } }
  var count: Int { collected.read { $0.bytes.count } }

  /// Waits for `count` bytes; false when they did not come.
  func waitFor(count: Int, timeoutMs: UInt64 = 60_000) -> Bool {
    collected.wait(timeoutMs: timeoutMs) { $0.bytes.count >= count ? true : nil } ?? false
  }

  /// Waits until nothing came for `quietMs`.
  func waitForQuiet(_ quietMs: UInt64 = 300) {
    var last = -1
    while count != last {
      last = count
      MonotonicClock.sleep(us: quietMs * 1000)
    }
  }

  /// All bytes, after the end of the stream.
  func finish() -> [UInt8] {
    isReading.update { $0 = true }
    thread.update { $0 }?.join()
    return collected.read { $0.bytes }
  }
}

/// This process's resident memory, in bytes.
func residentBytes() -> UInt64 {
  let text = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
  let line = text.split(separator: "\n").first { $0.hasPrefix("VmRSS:") } ?? ""
  return (UInt64(line.filter { $0.isASCII && $0.isNumber }) ?? 0) << 10
}

/// Ends the writing direction: the other end reads what came, then the end.
func shutdownWrite(_ socket: StreamSocket) { _ = Glibc.shutdown(socket.raw, Int32(SHUT_WR)) }

extension RelayRig {
  /// Waits until QEMU has the end of the stream, and expects that nothing failed on the way.
  func image(_ collector: Collector) throws -> MemoryImage {
    for _ in 0..<2400 {
      if let image = try? MemoryImage(of: collector.bytes), image.isComplete { break }
      MonotonicClock.sleep(us: 50_000)
    }
    let failures = [events.failure(timeoutMs: 0), destination.events.failure(timeoutMs: 0)]
      .compactMap(\.self)
    #expect(failures.isEmpty, "\(failures)")
    let image = try MemoryImage(of: collector.bytes)
    #expect(image.isComplete)
    return image
  }
}
