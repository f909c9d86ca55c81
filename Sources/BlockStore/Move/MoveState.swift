import Base
import DiskStrategy
import HostIO

/// A guest's write that is being carried out.
struct ActiveWrite: Sendable {
  let id: UInt64
  let blocks: Range<Int>
  /// Another one overlaps it, so nobody knows which of the two stays.
  var isContested = false
}

/// Blocks that go from memory.
struct ForwardedRun: Sendable {
  let blocks: Range<Int>
  let data: PageBuffer
  /// The copier has read it, and not the guest.
  var isCopied = false
}

/// Everything that a move knows; behind the lock of `DiskMove`.
struct MoveState: Sendable {
  /// Where the guest's requests go, and whether threads work for the move.
  enum Stage: Sendable { case idle, moving, switched, over(MovePhase) }

  /// Data that may wait to be forwarded, in bytes: with more, the copier reads them again later.
  static let queueBytesMax = 16 << 20

  let geometry: DiskGeometry
  var file: MapFile?
  var map: BlockMap
  var log = ActivityLog()
  var stage = Stage.idle

  var wish = MoveWish()
  var destination: MoveDestination?
  var destinationName: String
  /// The next connection is to the disk, whatever the other end says of itself.
  var trustsDestination = false
  var machine = MoveMachine(.mirror, pauseLimitMs: 0)
  var decision = MoveDecision()
  var order = CopyOrder()
  var pace = SendPace(bytesPerSecond: nil)
  /// For reads of the disk beside a guest that shall not feel them: small bursts.
  var readPace = SendPace(bytesPerSecond: nil, burstMs: 10)
  var guestPace = GuestPace()
  /// What the guest has written, as long as that is left for later.
  var deferred: PageBitmap?
  /// Where blocks come from that haven't changed since a snapshot.
  var supply: BackupSupply?
  /// What the destination had before the move.
  var base: (any OlderCopy)?
  /// What the copier has taken, in bytes.
  var copiedBytes: UInt64 = 0
  var meter = MoveMeter()

  var link: MoveLink?
  var connectionCount: UInt64 = 0
  var isDialing = false
  var nextDialUs: UInt64 = 0
  var dialWaitUs: UInt64 = 0

  var isPaused = false
  var problem: String?
  /// The guest's writes wait.
  var isFrozen = false
  var frozenUs: UInt64 = 0
  var frozenCount: UInt64 = 0
  var flushedUs: UInt64 = 0
  /// Since when the end is wanted; 0: it is not.
  var freezeWishUs: UInt64 = 0
  var isFlushing = false
  /// Waits until all calls that began before have returned.
  var settle: (@Sendable () -> Void)?
  var isDropping = false
  /// Threads of the move that have not ended.
  var threadCount = 0

  var writes: [ActiveWrite] = []
  var nextWrite: UInt64 = 1
  var queue: [ForwardedRun] = []
  var queuedBytes = 0
  var turns = SendTurns()
  /// Runs that the copier reads.
  var copierReads = 0
  /// Where it is in a surrogate's log.
  var tail = TailPlace()
  /// What is read ahead of the guest doesn't stay in memory for it.
  var sparesAhead = false
  /// Runs that are on the link.
  var linkSends = 0

  var arrivedBytes: UInt64 = 0
  var wireBytes: UInt64 = 0
  var readBytes: UInt64 = 0
  var forwardedBytes: UInt64 = 0
  var mirroredBytes: UInt64 = 0
  var skippedBytes: UInt64 = 0
  var pauseUs: UInt64?
  /// Since when a write to both sides waits until its blocks are no longer on their way; 0: none does.
  var heldSinceUs: UInt64 = 0

  init(_ geometry: DiskGeometry, map: BlockMap, file: MapFile?, destinationName: String) {
    (self.geometry, self.map, self.file) = (geometry, map, file)
    self.destinationName = destinationName
  }

  var isOver: Bool {
    switch stage {
    case .over: true
    default: false
    }
  }

  /// The connection, as long as something may be sent: once the copy is done, what the guest writes is the disk's
  /// here alone, and a copy that went on changing would be of no moment.
  var openLink: MoveLink? { isPaused || !stage.isMoving ? nil : link }

  var phase: MovePhase {
    switch stage {
    case .idle: .interrupted
    case .switched: .switched
    case .over(let phase): phase
    case .moving:
      if isPaused {
        .paused
      } else if isFrozen {
        .finishing
      } else if link == nil {
        .connecting
      } else {
        decision.writes == .mirror ? .mirroring : .copying
      }
    }
  }

  func byteCount(_ blocks: Range<Int>) -> UInt64 {
    let bytes = geometry.bytes(of: blocks)
    return bytes.upperBound - bytes.lowerBound
  }

  /// Puts into the file what the map says of these blocks.
  func save(_ blocks: Range<Int>) {
    guard let file, !blocks.isEmpty else { return }
    for chunk in (blocks.lowerBound >> 6)...((blocks.upperBound - 1) >> 6) {
      file[chunk] = map.openWord(chunk)
    }
  }

  /// Remembers that the blocks change, before they do.
  ///
  /// A block that the file has as the destination's already must not become needed in memory alone: the
  /// log says first, on stable storage, that something may change there.
  mutating func note(_ blocks: Range<Int>) {
    base?.noteChange(blocks)
    if let file, !map.isOpen(blocks) {
      let change = log.touch(geometry.bytes(of: blocks))
      do throws(SystemError) {
        if change == .replaced { try file.sync() }
        if change != .none {
          file.keep(log)
          try file.sync()
        }
      } catch {
        // A map that may lie is worse than none: an interrupted move begins anew.
        file.remove()
        self.file = nil
      }
    }
    map.note(blocks)
    save(blocks)
    guard decision.defersWritten else { return }
    var later = deferred.take() ?? PageBitmap(count: geometry.blockCount)
    for block in blocks { _ = later.insert(block) }
    deferred = later
  }

  /// Ends a send.
  ///
  /// - Parameter wasSent: false: it is there without.
  mutating func end(
    _ blocks: Range<Int>, arrived: Bool, over link: MoveLink, wasSent: Bool = true
  ) {
    // What an earlier connection's other end had, it may have lost with that connection. And what is
    // being written here was perhaps read before it was.
    let isKept =
      arrived && self.link?.id == link.id
      && !writes.contains { $0.blocks.overlaps(blocks) }
    map.end(blocks, arrived: isKept)
    save(blocks)
    guard isKept else { return }
    if wasSent { arrivedBytes += byteCount(blocks) } else { skippedBytes += byteCount(blocks) }
  }

  /// Takes everything off the queue that won't be sent.
  mutating func dropQueue() {
    for run in queue { map.end(run.blocks, arrived: false) }
    (queue, queuedBytes) = ([], 0)
  }

  mutating func thaw() {
    (isFrozen, frozenUs, freezeWishUs) = (false, 0, 0)
  }
}

extension MoveState {
  /// What a flush covered is the destination's for good, or needed again.
  mutating func endFlush(_ isDone: Bool) {
    var changed: [Int] = []
    map.endFlush(isDone) { changed.append($0) }
    guard let file else { return }
    for chunk in changed { file[chunk] = map.openWord(chunk) }
  }
}

extension MoveState {
  /// A connection is there, to an export that says this of itself. One that says something else than
  /// the one before is another disk, which has nothing yet: false. Servers that say nothing are believed.
  mutating func meet(_ told: String) -> Bool {
    guard let file else { return true }
    let known = ExportIdentity.plain(file.peer)
    // The one that is the disk was looked at before, or somebody says that it is the same.
    let isOther = !stage.isSwitched && !known.isEmpty && !ExportIdentity.isSame(known, told)
    // Before the name that makes what the file says be believed.
    if isOther, !needAll() { return false }
    if file.peer != told { file.peer = told }
    trustsDestination = false
    return !isOther
  }
}
