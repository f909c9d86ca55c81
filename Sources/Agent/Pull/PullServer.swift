import Base
import HostIO
import Strategy
import Wire

/// The source's side of a pull: opens connections to the destination, answers its page requests from the
/// stopped guest's memory, and opens them anew when one breaks, until the destination has everything.
///
/// It holds nothing that the destination does not tell it: an agent that was started anew goes on with
/// another `PullServer`.
final class PullServer: Sendable {
  enum Event: Sendable {
    /// The connections stand, for the first time or again.
    case connected
    /// One broke; the guest's faults wait until they are there again.
    case broken(String)
    case done(PullDone)
    /// `patienceMs` went by without a connection, or the guest's memory cannot be read.
    case failed(RelayFailure)
  }

  private struct State {
    var isStopped = false
    var connections: PullConnections?
    var prefetches = true
    var counters = PullSource.Counters()
    var given = PullTally()
    var breaks: UInt64 = 0

    /// Connections that were opened; whether they prefetch may have been decided otherwise meanwhile.
    mutating func take(_ opened: PullConnections) {
      opened.setPrefetching(prefetches)
      connections = opened
    }
  }

  private let memory: StoppedMemory
  private let identifier: PullIdentifier?
  private let packing: PullPacking?
  private let pacer: PullPacer?
  private let heat: @Sendable () -> [PullHeat]
  private let laneCount: UInt16
  private let recovery: LaneRecovery
  private let bytesWritten: Guarded<UInt64>
  private let onEvent: @Sendable (Event) -> Void
  private let state = Guarded(State())
  private let thread = Guarded<WorkerThread?>(nil)

  /// - Parameters:
  ///   - identifier: knows which pages the destination may have; nil: nobody does.
  ///   - packing: makes pages small that nobody waits for yet; nil: the destination takes them as they are.
  ///   - pacer: limits what is given ahead; nil: nothing does.
  ///   - heat: which pages are hot; called once for all connections, after the guest has stopped.
  ///   - laneCount: connections for what is asked for ahead, beside the one for faults.
  ///   - recovery: how a connection is opened, and how long to try.
  ///   - onEvent: called on the server's thread.
  init(
    memory: StoppedMemory, identifier: PullIdentifier? = nil, packing: PullPacking? = nil,
    pacer: PullPacer? = nil,
    heat: @escaping @Sendable () -> [PullHeat] = { [] }, laneCount: UInt16,
    recovery: LaneRecovery, bytesWritten: Guarded<UInt64>,
    onEvent: @escaping @Sendable (Event) -> Void
  ) {
    (self.memory, self.laneCount, self.recovery) = (memory, laneCount, recovery)
    (self.identifier, self.packing, self.pacer, self.heat) = (identifier, packing, pacer, heat)
    (self.bytesWritten, self.onEvent) = (bytesWritten, onEvent)
  }

  /// Opens the connections, so that none has to be opened while the guest stands still. Blocks; throws
  /// when the destination cannot be reached.
  func connect() throws {
    guard let dial = recovery.dial else { return }
    let connections = try open(dial)
    state.update { $0.take(connections) }
  }

  /// Serves on a thread of its own, until `done`, `failed` or `stop`.
  func start() {
    let worker = WorkerThread("gw-pull") { [self] in
      do throws(RelayFailure) { try serve() } catch { onEvent(.failed(error)) }
    }
    thread.update { $0 = worker }
  }

  func stop() {
    let connections = state.update { state in
      state.isStopped = true
      return state.connections
    }
    connections?.end("stopped")
    thread.update { $0 }?.join()
  }

  /// False: only what the guest waits for is given, for the time being.
  func setPrefetching(_ prefetches: Bool) {
    let connections = state.update { state in
      state.prefetches = prefetches
      return state.connections
    }
    connections?.setPrefetching(prefetches)
  }

  /// Pages handed out so far, and connections that broke.
  var counters: (pages: PullSource.Counters, breaks: UInt64) {
    state.read { state in
      var sum = state.counters
      if let now = state.connections?.counters { sum.add(now) }
      return (sum, state.breaks)
    }
  }

  /// Pages that went so far, by the way they did.
  var given: PullTally {
    state.read { state in
      var sum = state.given
      if let now = state.connections?.given { sum.add(now) }
      return sum
    }
  }

  /// Time that threads spent on making pages small, of all of them together, in milliseconds; nil: they don't.
  var packingMs: UInt64? { packing.map { $0.busyUs / 1000 } }

  /// Whether the destination is told which pages it may have.
  var identifies: Bool { identifier != nil }

  /// Bytes written to all connections of the migration.
  var wireBytes: UInt64 { bytesWritten.read { $0 } }

  private func serve() throws(RelayFailure) {
    while true {
      let connections = try connections()
      guard let connections else { return }
      onEvent(.connected)
      let end = connections.run()
      state.update { state in
        state.counters.add(connections.counters)
        state.given.add(connections.given)
        state.connections = nil
      }
      switch end {
      case .done(let done): return onEvent(.done(done))
      case .memory(let failure): throw failure
      case .broken(let reason):
        guard !state.read({ $0.isStopped }) else { return }
        state.update { $0.breaks += 1 }
        onEvent(.broken(reason))
      }
    }
  }

  /// The connections that stand, or new ones; nil once stopped.
  private func connections() throws(RelayFailure) -> PullConnections? {
    if let standing = state.read({ $0.isStopped ? nil : $0.connections }) { return standing }
    guard let dial = recovery.dial else { throw .peer("the pull's connections are gone") }
    let opened = Guarded<PullConnections?>(nil)
    let attempt = LaneRecovery(patienceMs: recovery.patienceMs) { [self] (role, lane) in
      // A destination that takes no pages now may take them in a moment: its agent is being started anew.
      let connections: PullConnections
      do { connections = try open(dial) } catch { throw RelayFailure.peer("\(error)") }
      opened.update { $0 = connections }
      return connections.first
    }
    _ = try attempt.restore(
      .pull, lane: 0, after: .peer("closed"), isOver: { state.read { $0.isStopped } },
      pause: { ms in _ = state.wait(timeoutMs: ms) { $0.isStopped ? true : nil } })
    return state.update { state in
      guard let connections = opened.read({ $0 }), !state.isStopped else {
        opened.read { $0 }?.end("stopped")
        return nil
      }
      state.take(connections)
      return connections
    }
  }

  private func open(
    _ dial: @Sendable (Hello.Role, UInt16) throws -> any ByteConnection
  ) throws -> PullConnections {
    var sockets: [any ByteConnection] = []
    do {
      // Lane 0 last: requests begin with it, and the destination counts its silence.
      for lane in 1...laneCount { sockets.append(try dial(.pull, lane)) }
      sockets.insert(try dial(.pull, 0), at: 0)
    } catch {
      for socket in sockets { socket.shutdown() }
      throw error
    }
    return PullConnections(
      sockets, memory, bytesWritten, identifier: identifier, packing: packing, pacer: pacer,
      heat: heat,
      prefetches: state.read { $0.prefetches })
  }
}

extension PullSource.Counters {
  fileprivate mutating func add(_ other: Self) {
    urgentPages += other.urgentPages
    aheadPages += other.aheadPages
    requestedLate += other.requestedLate
    identifiedPages += other.identifiedPages
    answeredPages += other.answeredPages
  }
}
