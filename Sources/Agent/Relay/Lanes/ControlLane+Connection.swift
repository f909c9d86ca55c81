import Base
import HostIO
import Wire

// What happens on one connection, and from one to the next.
extension ControlLane {
  /// Goes on over a new connection, in place of the present one or after a break.
  func attach(_ socket: any ByteConnection) {
    let frames = FrameSocket(socket, counting: bytesWritten)
    let (old, epoch) = state.update { state -> (FrameSocket?, Int?) in
      guard state.failure == nil, !state.hasEnded else { return (nil, nil) }
      let old = state.connection
      state.epoch += 1
      state.connection = frames
      state.peerIsKnown = false
      state.reportIsDue = true  // the first frame: what we have
      state.applied.isDue = state.applied.through > 0
      socket.setTimeout(ms: state.silenceLimitMs)
      return (old, state.epoch)
    }
    old?.socket.shutdown()
    guard let epoch else { return socket.shutdown() }
    startReader(frames, epoch: epoch)
    calls?.onBreak(true)
  }

  /// Reads a connection on a thread of its own, which hands nothing on before the thread of the connection before it has
  /// ended: that may still be busy with the frame before. What the peer has received is noted meanwhile, for who is busy
  /// may wait for just that.
  func startReader(_ frames: FrameSocket, epoch: Int) {
    reader.update { reader in
      let before = reader
      reader = WorkerThread("gw-control-rx") { [self] in read(frames, epoch, after: before) }
    }
  }

  private func read(_ frames: FrameSocket, _ epoch: Int, after previous: WorkerThread?) {
    var previous = previous
    do throws(RelayFailure) {
      while let header = try frames.receiveHeader() {
        let payload = try frames.receivePayload(of: header)
        if header.type != .heartbeat {
          previous?.join()
          previous = nil
        }
        guard try take(header, payload, epoch) else { return finish(nil) }
      }
      broke(epoch, .peer("closed by \(peer)"))
    } catch {
      broke(epoch, error)
    }
  }

  /// Takes a frame off the lane; false after the last one.
  private func take(
    _ header: FrameHeader, _ payload: [UInt8], _ epoch: Int
  ) throws(RelayFailure) -> Bool {
    switch header.type {
    case .bye: return false
    case .heartbeat: try confirm(payload, epoch)
    case .hello, .welcome, .pages, .encodedPages, .pullIdentities, .pullHeat, .probe, .probeMark:
      throw .protocolViolation("\(header.type) frame on the control lane")
    case .acknowledge: try calls?.onFrame(header.type, payload)
    case .message, .verbatim, .ramEnd, .tail, .invalidPages, .deviceState, .pullRequest, .pullDone,
      .pageRequest, .pageAnswer, .snapshotFilters:
      let arrival = state.update { state -> NumberedInbox.Arrival in
        guard state.epoch == epoch else { return .duplicate }
        let arrival = state.inbox.arrived(header.number)
        state.unreported.frames += 1
        state.unreported.bytes += payload.count
        if state.unreported.frames >= Self.reportFrames
          || state.unreported.bytes >= Self.reportBytes
        {
          state.reportIsDue = true
        }
        return arrival
      }
      switch arrival {
      case .new: try calls?.onFrame(header.type, payload)
      case .duplicate: break
      case .gap: throw .protocolViolation("frame \(header.number) of the control lane out of order")
      }
    }
    return true
  }

  /// The peer says what it has received.
  private func confirm(_ payload: [UInt8], _ epoch: Int) throws(RelayFailure) {
    let received: UInt64
    do throws(DecodeError) {
      var cursor = unsafe ByteCursor(payload.span.bytes)
      received = try Heartbeat(decoding: &cursor).receivedThrough
    } catch { throw .protocolViolation("\(error)") }
    let refusal = state.update { state -> NumberedOutbox.Refusal? in
      guard state.epoch == epoch else { return nil }
      do throws(NumberedOutbox.Refusal) {
        if state.peerIsKnown {
          try state.outbox.confirm(through: received)
        } else {
          try state.outbox.resume(after: received)
          state.peerIsKnown = true
        }
        return nil
      } catch { return error }
    }
    if let refusal {
      throw .protocolViolation(
        "\(peer) says it received \(refusal.received) frames of \(refusal.sent)")
    }
  }

  /// A connection is over: the lane waits for another one, or ends.
  func broke(_ epoch: Int, _ failure: RelayFailure) {
    let recovery = state.update { state -> LaneRecovery?? in
      guard state.epoch == epoch, let connection = state.connection else { return .some(nil) }
      if state.failure != nil || state.closing {
        state.connection = nil
        connection.socket.shutdown()
        return .none
      }
      switch failure {
      case .corrupt where state.corruptions < Self.corruptMax: state.corruptions += 1
      case .peer: break
      default: return .none
      }
      guard let recovery = state.recovery else { return .none }
      state.connection = nil
      state.breaks += 1
      connection.socket.shutdown()
      return .some(recovery)
    }
    switch recovery {
    case .none:
      let isClosing = state.read { $0.closing && $0.failure == nil }
      isClosing ? finish(nil) : fail(failure)
    case .some(.none): break  // another connection has taken its place
    case .some(.some(let recovery)):
      calls?.onBreak(false)
      _ = WorkerThread("gw-control-again") { [self] in reconnect(recovery, failure) }
    }
  }

  private func reconnect(_ recovery: LaneRecovery, _ failure: RelayFailure) {
    do throws(RelayFailure) {
      let socket = try recovery.restore(
        .resume, lane: 0, after: failure,
        isOver: { state.read { $0.connection != nil || $0.failure != nil || $0.closing } },
        pause: { ms in
          _ = state.wait(timeoutMs: ms) { state -> Bool? in
            state.connection != nil || state.failure != nil || state.closing ? true : nil
          }
        })
      if let socket { attach(socket) }
    } catch {
      fail(error)
    }
  }

  /// Writes what is due, over whatever connection there is.
  func writeLoop() {
    enum Step {
      case frame(FrameSocket, Int, FrameType, [UInt8], number: UInt64)
      case end
    }
    while true {
      let next = state.wait(timeoutMs: Self.heartbeatMs) { state -> Step? in
        if state.failure != nil { return .end }
        guard let connection = state.connection else { return state.closing ? .end : nil }
        let epoch = state.epoch
        if state.reportIsDue {
          return .frame(connection, epoch, .heartbeat, state.report(), number: 0)
        }
        if state.applied.isDue {
          state.applied.isDue = false
          var payload: [UInt8] = []
          Acknowledgement(appliedThrough: state.applied.through).encode(into: &payload)
          return .frame(connection, epoch, .acknowledge, payload, number: 0)
        }
        if state.peerIsKnown, let frame = state.outbox.next() {
          return .frame(connection, epoch, frame.type, frame.payload, number: frame.number)
        }
        guard state.closing else { return nil }
        return .frame(connection, epoch, .bye, [], number: 0)
      }
      let step =
        next
        ?? state.update { state -> Step? in
          state.connection.map { .frame($0, state.epoch, .heartbeat, state.report(), number: 0) }
        }
      switch step {
      case nil: continue
      case .end: return
      case .frame(let frames, let epoch, let type, let payload, let number):
        do throws(RelayFailure) {
          try unsafe frames.send(type, payload, number: number)
        } catch {
          broke(epoch, error)
        }
        if type == .bye { return }
      }
    }
  }
}

extension ControlLane.State {
  /// A heartbeat's payload, and a note that it is on its way.
  mutating func report() -> [UInt8] {
    reportIsDue = false
    unreported = (0, 0)
    var payload: [UInt8] = []
    Heartbeat(receivedThrough: inbox.receivedThrough).encode(into: &payload)
    return payload
  }
}
