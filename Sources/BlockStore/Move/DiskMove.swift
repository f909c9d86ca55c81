import DiskStrategy
import HostIO
import NBD
import Synchronization

/// The move of one disk: what the guest's requests and the copier's threads share.
///
/// The source has every write that was answered, until the guest's requests go to the destination; so it
/// is the disk, whatever happens to the destination, the network or this process.
final class DiskMove: Sendable {
  /// Threads that send: so many blocks' runs are on their way at once.
  static let senderCount = 8
  /// Connections over which a request is tried that each break: it may be what breaks them.
  static let attemptsMax = 16
  /// How long the guest's requests wait for a destination that is the disk and can't be reached, in
  /// milliseconds: as long as QEMU waits for a server.
  static let patienceMs: UInt64 = 30_000

  let name: String
  let source: OutsourcedStore
  let geometry: DiskGeometry
  let state: Guarded<MoveState>
  /// Whether a request may take as long as the destination does.
  let isRemote = Atomic(false)
  /// Only once the destination is the disk.
  let unflushed = UnflushedWrites()
  /// The guest's requests, and what they took together, in microseconds; counted while that is asked for.
  let guestRequests = Atomic<UInt64>(0)
  let guestUs = Atomic<UInt64>(0)
  let isTimed = Atomic(false)
  let log: @Sendable (String) -> Void

  init(
    name: String, source: OutsourcedStore, _ state: sending MoveState,
    log: @escaping @Sendable (String) -> Void
  ) {
    (self.name, self.source, self.log) = (name, source, log)
    geometry = state.geometry
    self.state = Guarded(state)
  }

  /// Whether the destination is the disk.
  var isElsewhere: Bool { state.read { $0.stage.isSwitched } }

  /// Whether a request may have to wait for the destination, or for the end of a freeze.
  func mayWait(writes: Bool) -> Bool {
    state.read { state in
      state.stage.isSwitched || writes && (state.isFrozen || state.decision.writes == .mirror)
    }
  }

  var status: MoveStatus {
    state.read { state in
      let hasBegun = state.destination != nil
      return MoveStatus(
        disk: name, destination: state.destinationName,
        method: hasBegun ? state.wish.method : nil, ending: hasBegun ? state.wish.ending : nil,
        phase: state.phase, diskBytes: geometry.byteCount,
        neededBytes: state.map.neededByteCount, arrivedBytes: state.arrivedBytes,
        wireBytes: state.wireBytes, readBytes: state.readBytes,
        forwardedBytes: state.forwardedBytes, mirroredBytes: state.mirroredBytes,
        roundCount: state.order.roundCount, bytesPerSecond: state.meter.bytesPerSecond,
        etaMs: state.stage.isMoving && !state.isPaused ? state.meter.etaMs : nil,
        connectionCount: state.connectionCount, pauseUs: state.pauseUs,
        backupBytes: state.supply?.suppliedBytes.load(ordering: .relaxed),
        backupRefusals: state.supply?.refusedParts.load(ordering: .relaxed),
        skippedBytes: state.base == nil ? nil : state.skippedBytes,
        baseRefusals: state.base?.refusals,
        surrogate: source.surrogateStatus, problem: state.problem)
    }
  }

  // MARK: The guest's latency

  /// When a request began; 0: nobody asks.
  var guestStart: UInt64 { isTimed.load(ordering: .relaxed) ? MonotonicClock.nowUs : 0 }

  func guestEnd(_ startUs: UInt64) {
    guard startUs > 0 else { return }
    guestUs.wrappingAdd(MonotonicClock.nowUs - startUs, ordering: .relaxed)
    guestRequests.wrappingAdd(1, ordering: .relaxed)
  }

  // MARK: Orders

  func pause() throws(MoveError) {
    try order { state throws(MoveError) in
      guard state.stage.isMoving else { throw MoveError("the disk \(self.name) isn't moving") }
      state.isPaused = true
      state.meter.forget()
      state.decision = MoveDecision()
      state.thaw()
    }
  }

  func resume() throws(MoveError) {
    try order { state throws(MoveError) in
      guard state.stage.isMoving else {
        throw MoveError("the disk \(self.name) isn't moving; godwit block move begins it again")
      }
      (state.isPaused, state.problem) = (false, nil)
    }
  }

  /// What shall happen at the end, from now on.
  func finish(_ ending: MoveEnding) throws(MoveError) {
    try order { state throws(MoveError) in
      guard state.stage.isMoving else { throw MoveError("the disk \(self.name) isn't moving") }
      guard ending != .switching || !state.wish.staysHere else {
        throw MoveError(
          "the disk \(self.name) moves together with its guest (godwit migrate), which ends that")
      }
      if ending == .switching, let link = state.link,
        link.store.traits.blockSizes.minimum > self.source.traits.blockSizes.minimum
      {
        throw MoveError(
          "the destination takes no requests as small as the disk's clients send; finish with --then copy"
        )
      }
      state.wish.ending = ending
    }
  }

  /// The source stays the disk, and nothing is remembered any more.
  func cancel() throws(MoveError) {
    try order { state throws(MoveError) in
      switch state.stage {
      case .switched:
        throw MoveError(
          "the disk \(self.name) is at the destination already; move it back from there")
      case .over: throw MoveError("the move of the disk \(self.name) is over")
      case .idle, .moving: break
      }
      state.stage = .over(.cancelled)
      state.thaw()
      state.file?.remove()
      state.file = nil
    }
  }

  private func order(_ body: (inout MoveState) throws(MoveError) -> Void) throws(MoveError) {
    try state.update { state throws(MoveError) in try body(&state) }
  }

  /// The server ends: what is not done can be gone on with by the next one.
  func suspend() {
    state.update { state in
      switch state.stage {
      case .moving: state.stage = .idle
      case .switched: state.stage = .over(.switched)
      case .idle, .over: break
      }
      state.thaw()
    }
    waitForThreads()
    state.update { state in
      try? state.file?.close(isClean: true)
      state.file = nil
    }
  }

  func waitForThreads() {
    while true {
      let isDone = state.wait(timeoutMs: 1000) { $0.threadCount == 0 ? true : nil }
      if isDone != nil { return }
    }
  }

  /// Something that a person has to look at: nothing is sent any more, and everything remembered.
  func stop(_ problem: String) {
    state.update { state in
      guard state.stage.isMoving, state.problem == nil else { return }
      (state.isPaused, state.problem) = (true, problem)
      state.decision = MoveDecision()
      state.meter.forget()
      state.thaw()
    }
    log("\(name): \(problem)")
  }
}

extension MoveState.Stage {
  var isMoving: Bool {
    switch self {
    case .moving: true
    default: false
    }
  }
  var isSwitched: Bool {
    switch self {
    case .switched: true
    default: false
    }
  }
}
