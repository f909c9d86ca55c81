import Base
import Foundation
import HostIO
import QEMUStream
import QMP
import Strategy
import Testing
import Wire

@testable import Agent

/// A pull through the destination's whole data path: frames on a control lane and data lanes in, a real
/// QEMU out.
@Suite(.serialized, .timeLimit(.minutes(3)), .enabled(if: !QEMUProgram.installed.isEmpty))
struct RelayPullTests {
  /// The other agent's place, with a relay at work for a destination.
  private final class Rig: Sendable {
    let relay: DestinationRelay
    let link: PeerLink
    let events = Events<DestinationRelay.Event>()
    let control: ControlLane
    let lanes: [FrameSocket]
    /// The source's ends of the pull's connections.
    let pullLanes: [FrameSocket]
    let ends = Events<RelayFailure?>()
    /// Frames from the destination.
    let frames = Events<(FrameType, [UInt8])>()
    private let tracker: Guarded<BarrierTracker>
    let guest: StoppedGuest

    init(
      _ guest: StoppedGuest, qemu: StreamSocket, mayPull: Bool = true,
      onRequests: @escaping @Sendable ([PullRequest]) -> Void = { _ in }
    ) throws {
      self.guest = guest
      tracker = Guarded(BarrierTracker(blockPages: guest.blocks.map(\.pageCount)))
      let (near, far) = try Sockets.tcpPair()
      link = PeerLink(far)
      let events = self.events
      relay = DestinationRelay(
        qemu: qemu, control: link.lane, shared: [:], windowBytes: 64 << 20, mayPull: mayPull
      ) { events.add($0) }
      link.setRelay { [relay] (type, payload) throws(RelayFailure) in
        try relay.arrived(type, payload)
      }
      link.setLayout { [relay] (blocks, id) throws(RelayFailure) in
        try relay.setLayout(blocks, sectionID: id)
      }
      relay.start()
      let ends = self.ends
      link.start(backlog: { 0 }) { if case .ended(let failure) = $0 { ends.add(failure) } }
      var lanes: [FrameSocket] = []
      for number in 1...2 as ClosedRange<UInt16> {
        let (near, far) = try Sockets.tcpPair()
        relay.addLane(far, number: number)
        lanes.append(FrameSocket(near))
      }
      self.lanes = lanes
      var pullLanes: [FrameSocket] = []
      for number in 0...1 as ClosedRange<UInt16> {
        let (near, far) = try Sockets.tcpPair()
        _ = relay.port?.attach(far, lane: number)
        pullLanes.append(FrameSocket(near))
      }
      self.pullLanes = pullLanes
      control = ControlLane(near, silenceLimitMs: 10_000)
      let frames = self.frames
      control.start(
        onFrame: { (type, payload) throws(RelayFailure) in
          frames.add((type, payload))
        },
        onEnd: { _ in })
      let (requests, frames2) = (pullLanes[0], self.frames)
      _ = WorkerThread("pull-rx") {
        while let header = try? requests.receiveHeader(),
          let payload = try? requests.receivePayload(of: header)
        {
          frames2.add((header.type, payload))
          guard header.type == .pullRequest else { continue }
          var cursor = ByteCursor(payload.span.bytes)
          if let asked = try? PullRequests(decoding: &cursor) { onRequests(asked.requests) }
        }
      }
      try control.send(
        .message, try PeerMessage.layout(guest.blocks, sectionID: guest.sectionID).encoded()
      )
    }

    func stop() {
      relay.stop()
      control.close()
      link.close()
    }

    /// A frame of QEMU's stream.
    func send(_ type: FrameType, _ bytes: [UInt8]) throws {
      var payload: [UInt8] = []
      tracker.update { $0.nextExclusivePlace() }.encode(into: &payload)
      try control.send(type, payload + bytes)
    }

    func send(_ run: Range<Int>, content: StoppedGuest? = nil) throws {
      let guest = content ?? self.guest
      let (draft, buffer) = guest.batch(run, sequence: 1)
      try send(BatchHeader(place: tracker.update { $0.nextPlace() }, runs: draft.runs), buffer)
    }

    func send(_ header: BatchHeader, _ buffer: PageBuffer?) throws(RelayFailure) {
      var head: [UInt8] = []
      header.encode(into: &head)
      let lane = lanes[Int(header.place.sequence) % lanes.count]
      try lane.send(.pages, head, body: buffer.map { $0.part(0, $0.byteCount) })
    }

    func sendInvalid(_ invalid: PageBitmap, perFrame: Int = 1000) throws {
      for block in guest.blocks.indices {
        let base = guest.numbering.bases[block]
        let end = base + guest.numbering.counts[block]
        let frames = InvalidPages.runs(of: invalid, in: base..<end, perFrame: perFrame)
        let isLastBlock = block == guest.blocks.count - 1
        for (index, runs) in (frames.isEmpty ? [[]] : frames).enumerated() {
          var payload: [UInt8] = []
          InvalidPages(
            place: tracker.update { $0.nextExclusivePlace() }, block: UInt16(block),
            isLast: isLastBlock && index >= frames.count - 1, runs: runs
          ).encode(into: &payload)
          try control.send(.invalidPages, payload)
        }
      }
    }

    /// Pages of a pull.
    func sendPulled(_ header: BatchHeader, _ buffer: PageBuffer?) throws(RelayFailure) {
      var head: [UInt8] = []
      header.encode(into: &head)
      try pullLanes[1].send(.pages, head, body: buffer.map { $0.part(0, $0.byteCount) })
    }

    func sendRuns(_ runs: [Range<UInt64>]) throws {
      var payload: [UInt8] = []
      InvalidPages(
        place: tracker.update { $0.nextExclusivePlace() }, block: 0, isLast: true, runs: runs
      ).encode(into: &payload)
      try control.send(.invalidPages, payload)
    }

    func sendState(_ state: [UInt8], isLast: Bool) throws {
      var payload: [UInt8] = []
      DeviceStatePart(
        place: tracker.update { $0.nextExclusivePlace() }, isLast: isLast, bytes: state
      ).encode(into: &payload)
      try control.send(.deviceState, payload)
    }

    /// Why the relay or its control lane gave up.
    func refusal() -> String? {
      let events = self.events
      for _ in 0..<6000 {
        if let failure = events.failure(timeoutMs: 5) { return "\(failure)" }
        if let failure = ends.first(timeoutMs: 5, where: { $0 }) {
          return "\(failure)"
        }
      }
      return nil
    }
  }

  @Test(arguments: QEMUProgram.installed)
  func aGuestMovesBeforeItsMemory(program: QEMUProgram) async throws {
    let pair = try await PullPair(program)
    let peer = PullingSource(pair.guest, isHeld: true)
    let rig = try Rig(pair.guest, qemu: pair.qemu) { peer.asked($0) }
    let (guest, invalid, head) = (pair.guest, pair.invalid, pair.head)
    let (sent, old) = (pair.sent, pair.stale)
    try await Blocking.run {
      var stale = guest
      for page in old { stale.pages[page] = PullPair.staleBytes }
      try rig.send(.verbatim, head)
      for (pages, content) in [(sent, guest), (old, stale)] {
        var next = 0
        while next < pages.count {
          var end = next + 1
          while end < pages.count, pages[end] == pages[end - 1] + 1 { end += 1 }
          try rig.send(pages[next]..<pages[end - 1] + 1, content: content)
          next = end
        }
      }
      try rig.sendInvalid(invalid)
      let state = try DeviceState(
        tail: guest.tail, descriptionLength: guest.descriptionLength)
      try rig.sendState(Array(state.bytes.prefix(100)), isLast: false)
      try rig.sendState(Array(state.bytes.dropFirst(100)), isLast: true)
    }
    #expect(try await pair.wait(for: .postcopyActive) == .postcopyActive)
    #expect(try await pair.loadedState() == .paused)
    _ = WorkerThread("peer") {
      peer.run { (header, buffer) throws(RelayFailure) in try rig.sendPulled(header, buffer) }
    }
    try await pair.to.client.cont()
    peer.state.update { $0.isHeld = false }
    let placed = try await Blocking.run {
      rig.frames.first(timeoutMs: 60_000) { (type, payload) -> UInt64? in
        guard type == .pullDone else { return nil }
        var cursor = ByteCursor(payload.span.bytes)
        return try? PullDone(decoding: &cursor).placedPages
      }
    }
    #expect(placed == UInt64(invalid.population))
    #expect(try await pair.wait(for: .completed) == .completed)
    #expect(try await pair.to.client.queryStatus().isRunning)
    #expect(rig.events.failure(timeoutMs: 0) == nil && peer.state.read { $0.failure } == nil)
    peer.state.update { $0.hasEnded = true }
    try await Blocking.run { rig.stop() }
  }

  /// What no honest source does ends the relay, and QEMU gets nothing of it.
  @Test(arguments: [
    "not agreed on", "state first", "invalid twice", "outside RAM", "tail behind it", "large state",
    "no FULL section",
  ])
  func brokenHandoversAreRefused(what: String) async throws {
    var guest = StoppedGuest()
    guest.ramBlocks([RAMBlock(name: "pc.ram", length: 64 << 12)], sectionID: 2)
    let found = guest
    let refusal = try await Blocking.run { () -> String? in
      let (qemu, far) = try Sockets.unixPair()
      let rig = try Rig(found, qemu: qemu, mayPull: what != "not agreed on")
      defer {
        far.shutdown()
        rig.stop()
      }
      var invalid = PageBitmap(count: found.numbering.limit)
      invalid[3] = true
      if what != "state first" {
        if what == "outside RAM" {
          try rig.sendRuns([60..<65])
        } else {
          try rig.sendInvalid(invalid)
        }
      }
      if what == "invalid twice" { try rig.sendInvalid(invalid) }
      if what == "large state" {
        let part = [UInt8](repeating: 4, count: SequencedHeader.chunkMax)
        for _ in 0...PullEntrance.deviceStateMax / part.count {
          try? rig.sendState(part, isLast: false)
        }
      }
      try? rig.sendState(what == "no FULL section" ? [7] : [4], isLast: true)
      if what == "tail behind it" { try? rig.send(.tail, [0]) }
      return rig.refusal()
    }
    #expect(refusal?.contains("broke the protocol") == true, "\(what): \(refusal ?? "taken")")
  }
}
