import Base
import HostIO
import QEMUStream
import TestSupport
import Testing
import Wire

@testable import Agent

/// A slow or silent other end stops QEMU, not the agent; memory stays bounded (I5).
@Suite(.serialized, .timeLimit(.minutes(3))) struct BackPressureTests {
  /// Writes `head`, then `piece` over and over; counts what was taken.
  private func flood(
    _ socket: StreamSocket, _ head: [UInt8], _ piece: [UInt8], limit: Int
  ) -> Guarded<Int> {
    let written = Guarded(0)
    _ = WorkerThread("test-flood") {
      guard (try? socket.writeAll(head.span.bytes)) != nil else { return }
      while written.read({ $0 < limit }), (try? socket.writeAll(piece.span.bytes)) != nil {
        written.update { $0 += piece.count }
      }
    }
    return written
  }

  /// - Parameter least: it is not steady before it is more than this.
  private func waitUntilSteady(_ value: Guarded<Int>, above least: Int = 0) -> Int {
    var last = -1
    while last <= least || last != value.read({ $0 }) {
      last = value.read { $0 }
      MonotonicClock.sleep(us: 700_000)
    }
    return last
  }

  /// 1 GiB of pages for a peer that reads nothing: QEMU's write blocks after a few MiB.
  @Test func peerThatDoesNotReadStopsQEMU() throws {
    let (near, far) = try Sockets.tcpPair()  // nobody reads `far`
    let (control, controlFar) = try Sockets.tcpPair()
    let (qemu, qemuFar) = try Sockets.unixPair()
    let queue = SendQueue(windowMax: 64 << 20, bandwidth: nil)
    let lane = ControlLane(control, silenceLimitMs: 60_000)
    lane.start(onFrame: { (_, _) throws(RelayFailure) in }, onEnd: { _ in })
    let events = Events<SourceRelay.Event>()
    let relay = SourceRelay(
      qemu: qemuFar, control: lane, lanes: [near], queue: queue, memoryLimit: 256 << 20, shared: [:]
    ) { events.add($0) }
    relay.start()
    let length: UInt64 = 1 << 30
    var stream = SyntheticStream(blocks: [RAMBlock(name: "mem0", length: length)])
    let page = SyntheticStream.page
    var piece: [UInt8] = []
    stream.writer.beginPart(into: &piece)
    for number in 0..<256 as Range<UInt64> {
      stream.writer.page(
        block: 0, offset: number << 12, bytes: page.span.bytes, into: &piece)
    }
    stream.writer.endSection(into: &piece)
    let before = residentBytes()
    let written = flood(qemu, stream.bytes, piece, limit: 1 << 30)
    let taken = waitUntilSteady(written, above: 1 << 20)
    #expect(taken < 48 << 20, "\(taken) bytes were taken from QEMU")
    #expect(residentBytes() < before + 256 << 20)
    #expect(events.failure(timeoutMs: 0) == nil)
    // Over when the relay is: nothing waits for the peer.
    relay.stop()
    lane.fail(.stopped)
    _ = (far, controlFar)
  }

  /// A stream that passes unread goes over the control lane; the destination's QEMU is slow. The
  /// source waits, the destination never holds more than it agreed to.
  @Test func passThroughWaitsForASlowDestination() throws {
    let rig = try RelayRig(laneCount: 1)
    let collector = Collector(rig.destination.qemu, reading: false)
    var stream = SyntheticStream()
    let whole = stream.bytes.count
    StreamItemWriter.sectionHeader(
      .start, id: 77, name: "dirty-bitmap", instance: 0, version: 1, into: &stream.bytes)
    let piece = [UInt8](repeating: 0x5A, count: 1 << 20)
    let before = residentBytes()
    let written = flood(rig.qemu, stream.bytes, piece, limit: 400 << 20)
    let taken = waitUntilSteady(written, above: 1 << 20)
    #expect(taken < 48 << 20, "\(taken) bytes were taken from QEMU")
    #expect(residentBytes() < before + 256 << 20)
    #expect(rig.events.handover?.hasPrefix("foreignIterable") == true)
    collector.isReading.update { $0 = true }
    let arrived = collector.waitFor(count: whole + 400 << 20, timeoutMs: 150_000)
    #expect(arrived, "\(collector.count) bytes arrived")
    #expect(rig.destination.events.failure(timeoutMs: 0) == nil)
    #expect(rig.events.failure(timeoutMs: 0) == nil)
    rig.stop()
  }

  /// The same with a peer that dies: the reader of QEMU's stream is not left waiting.
  @Test(arguments: [true, false]) func peerThatDies(passThrough: Bool) throws {
    let rig = try RelayRig(laneCount: 2)
    var stream = SyntheticStream()
    if passThrough {
      StreamItemWriter.sectionHeader(
        .start, id: 77, name: "vfio", instance: 0, version: 1, into: &stream.bytes)
    }
    let page = SyntheticStream.page
    var piece: [UInt8] = []
    stream.part { writer, out in
      for number in 0..<64 as Range<UInt64> {
        writer.page(
          block: 0, offset: number << 12, bytes: page.span.bytes, into: &piece)
      }
      _ = out
    }
    if !passThrough { stream.writer.beginPart(into: &stream.bytes) }
    let written = flood(rig.qemu, stream.bytes, piece, limit: 1 << 30)
    _ = waitUntilSteady(written)  // nobody reads at the destination
    rig.destination.control.shutdown()
    for lane in rig.destination.lanes { lane.shutdown() }
    let isTold = rig.linkEnds.first { _ in true } ?? false
    #expect(isTold, "the end of the lane was not told")
    rig.stop()
  }

  /// A full lane to a peer that does not read: a message still goes in at once, and who waits with
  /// bytes of the stream is let go when the relay stops.
  @Test func fullControlLane() throws {
    let (near, far) = try Sockets.tcpPair()
    let lane = ControlLane(near, silenceLimitMs: 60_000)
    lane.start(onFrame: { (_, _) throws(RelayFailure) in }, onEnd: { _ in })
    let queued = Guarded(0)
    let ends = Events<RelayFailure>()
    let payload = [UInt8](repeating: 1, count: 1 << 20)
    _ = WorkerThread("test-stream") {
      do throws(RelayFailure) {
        while queued.read({ $0 < 1024 }) {
          try lane.send(.verbatim, payload)
          queued.update { $0 += 1 }
        }
      } catch { ends.add(error) }
    }
    let taken = waitUntilSteady(queued)
    #expect(taken < 64, "\(taken) MiB were taken")
    try lane.send(.message, try PeerMessage.abort(reason: "enough").encoded())
    lane.stopStream()
    let end = try #require(ends.first(timeoutMs: 60_000) { $0 }, "the stream's thread still waits")
    guard case .stopped = end else { throw end }
    lane.fail(.stopped)
    _ = far
  }
}
