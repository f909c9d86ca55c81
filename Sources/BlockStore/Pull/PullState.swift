import Base
import DiskStrategy
import HostIO
import NBD

/// Everything that a pull knows; behind the lock of `DiskPull`.
struct PullState: Sendable {
  enum Stage: Sendable { case pulling, suspended, over(DiskPullPhase) }

  let source: MoveDestination
  /// nil: the pull is over, or the server ends.
  var file: PullFile?
  var map: PullMap
  /// What the source says of itself has to stay so; empty: it said nothing.
  let peer: String
  var stage = Stage.pulling
  /// Requests that began before the pull have ended: what is fetched may be stored.
  var isSettled = false
  var isWritten: Bool

  var link: RemoteStore?
  var connectionCount: UInt64 = 0
  var isDialing = false
  var dialedUs: UInt64 = 0
  var nextDialUs: UInt64 = 0
  /// Why there is no connection.
  var sourceProblem: String?

  var isPaused = false
  /// Why it pauses, unless that was wished for.
  var problem: String?

  var order = CopyOrder()
  /// The guest's last request that the order knows of.
  var guestUs: UInt64 = 0
  var pace: SendPace
  var meter = MoveMeter()
  /// Of what the source has said what is zeros.
  var inquiry: ZeroInquiry
  var isAsking = false
  /// Runs that are fetched without being asked for.
  var runCount = 0
  var isFlushing = false
  var flushedUs: UInt64 = 0
  /// Threads of the pull that have not ended, and fetches of the guest's requests.
  var threadCount = 0
  var fetchCount = 0

  /// Requests that wait for the source now.
  var waitingCount = 0
  var lastFaultUs: UInt64?
  var faults: UInt64 = 0
  var failedFaults: UInt64 = 0
  var faultUs: UInt64 = 0
  var faultUsMax: UInt64 = 0
  var fetchedBytes: UInt64 = 0
  var zeroBytes: UInt64 = 0

  init(_ source: MoveDestination, _ file: PullFile, map: PullMap) {
    (self.source, self.file, self.map) = (source, file, map)
    (peer, isWritten) = (file.peer, file.isWritten)
    pace = SendPace(bytesPerSecond: file.bytesPerSecond)
    inquiry = ZeroInquiry(diskByteCount: map.geometry.byteCount)
  }

  var geometry: DiskGeometry { map.geometry }

  var isPulling: Bool {
    if case .pulling = stage { true } else { false }
  }

  var isCancelled: Bool {
    if case .over(.cancelled) = stage { true } else { false }
  }

  /// The connection, if it can be used.
  var openLink: RemoteStore? {
    guard isSettled, let link, !link.isBroken else { return nil }
    return link
  }

  var phase: DiskPullPhase {
    switch stage {
    case .over(let phase): phase
    case .pulling, .suspended: isPaused ? .paused : link == nil ? .connecting : .pulling
    }
  }

  func byteCount(_ blocks: Range<Int>) -> UInt64 {
    let bytes = geometry.bytes(of: blocks)
    return bytes.upperBound - bytes.lowerBound
  }

  /// The blocks are here from now on, and the file has that before anybody is told.
  mutating func settle(_ ticket: PullTicket) {
    map.settle(ticket)
    guard let file, !ticket.blocks.isEmpty else { return }
    for chunk in (ticket.blocks.lowerBound >> 6)...((ticket.blocks.upperBound - 1) >> 6) {
      file.setHere(chunk, map.hereWord(chunk))
    }
  }

  /// What a request that needs these blocks has to do; nil: to wait.
  ///
  /// - Parameter first: of those that were not here at the last look.
  mutating func step(_ blocks: Range<Int>, since first: Int) -> PullStep? {
    switch stage {
    case .over(.cancelled): return .refused(Self.cancelled)
    case .suspended where !map.isHere(blocks): return .refused(Self.ending)
    case .pulling, .suspended, .over: break
    }
    if map.isHere(blocks) { return .here }
    if let link = openLink, let run = map.freeRun(in: blocks) {
      fetchCount += 1
      return .fetch(take(run), link)
    }
    guard let next = map.missing.first(atOrAfter: blocks.lowerBound), next > first else {
      return nil
    }
    return .comes(upTo: next)
  }

  /// Begins to fetch a run.
  mutating func take(_ run: Range<Int>) -> [PullTicket] {
    let tickets = map.take(run)
    for ticket in tickets where !ticket.isStore { pace.spend(byteCount(ticket.blocks)) }
    return tickets
  }

  /// Where the beginning of a range that can't be stored here is to be read; nil: it has to be waited for.
  func readStep(_ blocks: Range<Int>) -> PullReadStep? {
    if isCancelled { return .refused(Self.cancelled) }
    switch map.place(of: blocks) {
    case .here(let run): return .image(run)
    case .busy: return nil
    case .missing(let run):
      guard isPulling else { return .refused(Self.ending) }
      return openLink.map { .source(run, $0) }
    }
  }

  static let cancelled = StoreError(
    .inputOutput, "the pull of this disk was cancelled: its source is the disk")
  static let ending = StoreError(.inputOutput, "the server of this disk ends")
  static let unreachable = StoreError(
    .inputOutput, "what this disk is pulled from can't be reached")

  mutating func endFault(from startUs: UInt64, _ nowUs: UInt64, isDone: Bool) {
    waitingCount -= 1
    lastFaultUs = nowUs
    let tookUs = nowUs - min(startUs, nowUs)
    faults += 1
    faultUs += tookUs
    faultUsMax = max(faultUsMax, tookUs)
    if !isDone { failedFaults += 1 }
  }
}

/// What a request that needs blocks has to do.
enum PullStep: Sendable {
  case here
  /// To wait: others bring the blocks, and all up to this one have come.
  case comes(upTo: Int)
  /// It counts in `fetchCount` until its end.
  case fetch([PullTicket], RemoteStore)
  case refused(StoreError)
}

/// Where a request whose blocks can't be stored here finds them.
enum PullReadStep: Sendable {
  case image(Range<Int>)
  case source(Range<Int>, RemoteStore)
  case refused(StoreError)

  var blocks: Range<Int> {
    switch self {
    case .image(let blocks), .source(let blocks, _): blocks
    case .refused: 0..<0
    }
  }
}
