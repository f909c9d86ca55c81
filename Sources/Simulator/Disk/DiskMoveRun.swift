import Base
import DiskStrategy

/// A simulated move: the machines that `godwit block move` runs, a disk, a link and a guest, in virtual time.
///
/// What stands between the machines and the disk in `BlockStore/Move` is modelled here as it is done there: notes
/// before and after each write, sends that lose against a write, reads that are widened, what is sent from memory.
struct DiskMoveRun {
  enum Event {
    case ready(Int)
    case served(DiskRequest, number: Int)
    /// A read that memory answers.
    case found(Int)
    case delivered(Int)
    case tick
    case cut
    case joined
  }

  /// Threads of the copier, bytes that may wait to be sent from memory, and what a small read is widened to, as
  /// there.
  static let senderCount = 8
  static let queueBytesMax = 16 << 20
  static let aroundBlocks = 16
  static let tickUs: UInt64 = 5000
  /// What a read takes that memory answers.
  static let memoryUs: UInt64 = 20
  static let checkpointUs: UInt64 = 1_000_000

  struct Client {
    var place = 0
    var sinceUs: UInt64 = 0
    var blocks = 0..<0
    var isWrite = false
    /// What its write writes.
    var value: UInt32 = 0
    /// Sides on which its write is still open.
    var openParts = 0
    /// The write goes to both.
    var isMirrored = false
    var hasArrived = true
  }

  struct Send {
    let blocks: Range<Int>
    let content: [UInt32]
    /// Of the guest's write that waits for it; nil: the copier's.
    let client: Int?
    let isCopier: Bool
    let connection: Int
  }

  let setup: DiskMoveSetup
  let geometry: DiskGeometry
  var random: SplitMix64
  var nowUs: UInt64 = 0
  var events = EventQueue<Event>()
  var device: DiskDevice
  var contents: DiskContents
  var cache: DiskCache
  var map: BlockMap
  var order = CopyOrder()
  var pace: SendPace
  var meter = MoveMeter()
  var machine: MoveMachine?
  var decision = MoveDecision()

  var clients: [Client]
  /// Writes that wait: for the end of the move, or for blocks that are on their way.
  var held: [Int] = []
  var writesInFlight = 0
  var readNumber = 0
  /// What the copier reads, by the number of the read.
  var copies: [Int: (blocks: Range<Int>, follows: Bool)] = [:]
  var widened: [Int: Range<Int>] = [:]
  var busySenders = 0
  var turns = SendTurns()
  /// Of the copier: runs on the link, and such as wait for it.
  var linkSends = 0
  var linkWaiting: [(blocks: Range<Int>, content: [UInt32])] = []
  var queue: [(blocks: Range<Int>, content: [UInt32])] = []
  var queuedBytes = 0
  var sends: [Int: Send] = [:]
  var sendNumber = 0
  var linkFreeUs: UInt64 = 0
  var connection = 1
  var isConnected = true
  var flushedUs: UInt64 = 0
  var frozenUs: UInt64?
  var arrivedBytes: UInt64 = 0
  var endUs: UInt64?
  var latencies: [UInt64] = []
  var outcome = DiskMoveOutcome()

  /// Nil: no disk can have that size.
  init?(_ setup: DiskMoveSetup, seed: UInt64) {
    guard let geometry = DiskGeometry(byteCount: setup.byteCount) else { return nil }
    (self.setup, self.geometry) = (setup, geometry)
    random = SplitMix64(seed: seed)
    device = DiskDevice(setup.disk, blockCount: geometry.blockCount)
    contents = DiskContents(blockCount: geometry.blockCount)
    cache = DiskCache(byteCount: setup.cacheBytes, blockCount: geometry.blockCount)
    map = BlockMap(geometry)
    pace = SendPace(bytesPerSecond: setup.bandwidth)
    machine = setup.method.map { MoveMachine($0, pauseLimitMs: setup.pauseLimitMs) }
    clients = Array(repeating: Client(), count: max(setup.load.clients, 0))
  }

  static func run(_ setup: DiskMoveSetup, seed: UInt64) -> DiskMoveOutcome? {
    guard var run = DiskMoveRun(setup, seed: seed) else { return nil }
    run.runAll()
    return run.outcome
  }

  mutating func runAll() {
    for client in clients.indices {
      events.add(.ready(client), atUs: setup.load.think(using: &random))
    }
    if machine != nil { events.add(.tick, atUs: 0) }
    for cut in setup.cutsMs { events.add(.cut, atUs: cut * 1000) }
    let limitUs = setup.lengthMs * 1000
    while endUs == nil, let (atUs, event) = events.next(), atUs <= limitUs {
      nowUs = atUs
      handle(event)
    }
    finish()
  }

  private mutating func handle(_ event: Event) {
    switch event {
    case .ready(let client): begin(client)
    case .served(let request, let number): served(request, number)
    case .found(let client): answer(client)
    case .delivered(let number): delivered(number)
    case .tick: tick()
    case .cut: cut()
    case .joined: isConnected = true
    }
    copy()
    serve()
  }

  /// Gives the disk what it has room for.
  private mutating func serve() {
    while let (request, endUs) = device.begin(nowUs: nowUs, using: &random) {
      readNumber += 1
      if request.isWrite {
        contents.beginWrite(request.blocks)
      } else {
        contents.beginRead(readNumber, request.blocks)
        outcome.readBytes += byteCount(request.blocks)
        if case .copier = request.owner { outcome.moveReadBytes += byteCount(request.blocks) }
      }
      events.add(.served(request, number: readNumber), atUs: endUs)
    }
  }

  private mutating func finish() {
    let lengthUs = endUs ?? nowUs
    outcome.totalMs = machine == nil ? nil : endUs.map { $0 / 1000 }
    outcome.requestsPerSecond = Double(latencies.count) * 1e6 / Double(max(lengthUs, 1))
    latencies.sort()
    outcome.p99LatencyUs = latencies.isEmpty ? 0 : latencies[(latencies.count - 1) * 99 / 100]
    if endUs != nil, let block = contents.firstDifference {
      outcome.violation = "block \(block) is not what the source has"
    }
  }
}
