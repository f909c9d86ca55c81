import Base
import HostIO
import Wire

/// The destination's side of a pull's connections: requests out, pages in.
///
/// The source opens them, and opens them anew when one breaks. Requests that find no connection are dropped:
/// the feeder asks again for everything that is not there once lane 0 stands (`connectionRenewed`).
final class PullPort: Sendable {
  private struct State {
    var lanes: [UInt16: PullLane] = [:]
    /// Of lane 0: what is to be written.
    var requests: [PullRequest] = []
    var feeder: PullFeeder?
    var done: PullDone?
    /// `done` was written at least once.
    var doneIsOut = false
    var isStopped = false
  }

  /// Lanes that are let in, and requests that may wait to be written.
  static let lanesMax: UInt16 = 65
  static let requestsMax = 65_536
  static let finishTimeoutMs: UInt64 = 2000

  private let state = Guarded(State())
  private let unpacking = PageUnpacking()
  private let onEvent: @Sendable (_ isConnected: Bool) -> Void
  private let onFailure: @Sendable (RelayFailure) -> Void

  /// - Parameters:
  ///   - onEvent: lane 0 broke, or is there again.
  ///   - onFailure: the source broke the protocol, or QEMU takes no more pages.
  init(
    onEvent: @escaping @Sendable (Bool) -> Void,
    onFailure: @escaping @Sendable (RelayFailure) -> Void
  ) { (self.onEvent, self.onFailure) = (onEvent, onFailure) }

  /// From now on pages go to `feeder`.
  func begin(_ feeder: PullFeeder) { state.update { $0.feeder = feeder } }

  /// Takes a connection in, in place of the one that the lane had before. False: there is no such lane.
  func attach(_ socket: any ByteConnection, lane number: UInt16) -> Bool {
    guard number < Self.lanesMax else { return false }
    let lane = PullLane(socket)
    let (isTaken, previous, feeder) = state.update { state -> (Bool, PullLane?, PullFeeder?) in
      guard !state.isStopped else { return (false, nil, nil) }
      if number == 0 { state.requests = [] }
      return (true, state.lanes.updateValue(lane, forKey: number), state.feeder)
    }
    guard isTaken else {
      socket.shutdown()
      return true
    }
    previous?.shutdown()
    if number == 0 {
      socket.setTimeout(ms: PeerLink.silenceLimitMs)
      _ = WorkerThread("gw-pull-ask", isUrgent: true) { [self] in write(lane) }
    }
    // All of them write to QEMU's stream, one at a time.
    _ = WorkerThread("gw-pull-rx-\(number)", isUrgent: true) { [self] in
      TLSConnection.hurried(for: [socket]) { read(lane, number) }
    }
    guard number == 0 else { return true }
    onEvent(true)
    do throws(RelayFailure) { try feeder?.connectionRenewed() } catch { onFailure(error) }
    return true
  }

  /// Sends requests, in order.
  func ask(_ requests: [PullRequest]) {
    state.update { state in
      guard state.lanes[0] != nil, state.requests.count < Self.requestsMax else { return }
      state.requests += requests
    }
  }

  /// Says, now and on every further connection, that nothing is missing any more.
  func finished(_ done: PullDone) { state.update { $0.done = done } }

  /// Ends the connections, after what was `finished` is out if there is one that takes it. Blocks.
  func stop() {
    _ = state.wait(timeoutMs: Self.finishTimeoutMs) { state in
      state.done == nil || state.doneIsOut || state.lanes[0] == nil ? true : nil
    }
    let lanes = state.update { state in
      state.isStopped = true
      defer { state.lanes = [:] }
      return Array(state.lanes.values)
    }
    for lane in lanes { lane.shutdown() }
  }

  private func write(_ lane: PullLane) {
    while true {
      enum Step {
        case requests([PullRequest])
        case done(PullDone)
      }
      let step = state.wait(timeoutMs: PullConnections.heartbeatMs) { state -> Step?? in
        guard !state.isStopped, state.lanes[0] === lane, !lane.isOver else { return .some(nil) }
        if let done = state.done { return .done(done) }
        guard !state.requests.isEmpty else { return nil }
        let part = Array(state.requests.prefix(PullLimits.requestsMax))
        state.requests.removeFirst(part.count)
        return .requests(part)
      }
      do throws(RelayFailure) {
        switch step {
        case .some(.none): return
        case .some(.some(.requests(let requests))): try lane.send(requests)
        case .some(.some(.done(let done))):
          try lane.send(done)
          return state.update { $0.doneIsOut = true }
        case nil: try lane.sendHeartbeat()
        }
      } catch {
        return lane.shutdown()
      }
    }
  }

  private func read(_ lane: PullLane, _ number: UInt16) {
    do throws(RelayFailure) {
      while let arrival = try lane.receive() {
        guard let feeder = state.read({ $0.feeder }) else {
          throw .protocolViolation("pages before any were asked for")
        }
        switch arrival {
        case .pages(let header, let buffer): try feeder.arrived(header, buffer)
        case .packed(let header, let body):
          let pages = try unpacking.unpack(header, body)
          defer { unpacking.giveBack(pages) }
          try feeder.arrived(header.batch, pages)
        case .identities(let frame): try feeder.identified(frame)
        case .heat(let frame): try feeder.prefer(frame)
        }
      }
    } catch {
      switch error {
      // The source sees that the connection is over, and opens it again.
      case .peer, .corrupt: break
      default: onFailure(error)
      }
    }
    lane.shutdown()
    // What was on its way over any lane is lost: lane 0 ends as well, and the source opens all of them again.
    let (wasFirst, first) = state.update { state -> (Bool, PullLane?) in
      guard state.lanes[number] === lane else { return (false, nil) }
      state.lanes[number] = nil
      guard !state.isStopped else { return (false, nil) }
      return (number == 0, state.done == nil ? state.lanes[0] : nil)
    }
    first?.shutdown()
    if wasFirst { onEvent(false) }
  }
}
