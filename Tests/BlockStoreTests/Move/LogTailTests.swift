import Base
import DiskStrategy
import HostIO
import NBD
import Simulator
import Synchronization
import Testing

@testable import BlockStore

/// What is in a surrogate is copied last, and the guest works there meanwhile.
@Suite struct LogTailTests {
  /// Blocks that were written one after the other, each elsewhere on the disk, lie side by side in the log: a drive's head
  /// has a quarter of the way at most that it would have if they were read in the disk's order.
  @Test(.timeLimit(.minutes(2))) func theLogIsReadInItsOwnOrder() async throws {
    let rig = try MoveRig(isPrompt: false)
    let log = RecordingStore(byteCount: 24 << 20)
    // So slowly that the guest has written before the tail begins, on a busy machine, too.
    var wish = rig.wish(.waio, .wait, bytesPerSecond: 1 << 20)
    wish.surrogate = SurrogateWish(SurrogatePlace(name: "the log") { log })
    try await rig.move(wish)
    try await rig.until("in use") { $0.surrogate?.phase == .inUse }
    let client = try rig.source.connect()
    var random = SplitMix64(seed: 11)
    // Every eighth block, in any order.
    let blocks = (0..<320).map { $0 * 8 }.shuffled(using: &random)
    try await WorkerThread.run("guest") {
      for block in blocks {
        try client.put([UInt8](repeating: UInt8(block % 251), count: 4096), at: UInt64(block) << 12)
      }
    }
    let written = try #require(rig.movable.moveStatus)
    #expect(written.roundCount == 0, "\(written)")
    log.begin()
    try await rig.until("the same") { $0.phase == .mirroring && $0.neededBytes == 0 }
    let reads = log.reads
    client.close()
    try rig.movable.finishMove(.copy)
    try await rig.until("copied") { $0.phase == .copied }
    try await rig.untilAllIsBack()
    #expect(try difference(rig.bytes(of: rig.target.store), rig.bytes(of: rig.store)) == nil)
    // Headers lie between the data, so some more than the data is read.
    let byteCount = reads.reduce(0) { $0 + $1.count } << 12
    #expect(byteCount >= 320 << 12 && byteCount < 4 * 320 << 12, "\(reads)")
    let one = reads.flatMap { $0 }.shuffled(using: &random).prefix(320)
    let alone = headUs(one.map { $0..<($0 + 1) })
    #expect(headUs(reads) * 4 < alone, "\(reads.count) reads")
  }

  /// What a drive with a head takes for reads of the log one after the other, in microseconds of its own.
  private func headUs(_ reads: [Range<Int>]) -> UInt64 {
    var (head, random) = (DiskHead(.hdd, blockCount: (24 << 20) >> 12), SplitMix64(seed: 5))
    return reads.reduce(0) {
      head.serve($1, isWrite: false, nowUs: $0, using: &random)
    }
  }

  /// The guest's requests stand behind one read of the copier's at most, and behind little that waits to be sent.
  @Test func oneReadBesideABusyGuest() throws {
    let geometry = try #require(DiskGeometry(byteCount: 1 << 20))
    var state = MoveState(
      geometry, map: BlockMap(geometry), file: nil, destinationName: "somewhere")
    func mayRead(_ nowUs: UInt64) -> Bool { state.mayRead(nowUs) }
    state.decision.readsTail = true
    state.order.noteGuest(0..<1, nowUs: 1_000_000)
    #expect(mayRead(1_010_000))
    state.noteRead(4096)
    // A short read costs the head's way.
    #expect(state.copiedBytes == DiskMoveTerms.tailReadCost)
    #expect(!mayRead(1_010_000))
    // The guest rests.
    #expect(mayRead(1_100_000))
    state.copierReads = 0
    #expect(mayRead(1_010_000))
    state.queuedBytes = DiskMoveTerms.tailQueueBytesMax
    #expect(!mayRead(1_010_000))
    // The guest's writes wait for the end, and for nothing else.
    state.isFrozen = true
    #expect(mayRead(1_010_000))
  }
}

/// A disk in memory that notes which of its blocks are read.
private final class RecordingStore: DiskStore {
  private let inner: VolatileStore
  private let noted = Mutex<[Range<Int>]?>(nil)

  init(byteCount: Int) { inner = VolatileStore(byteCount: byteCount, isPrompt: false) }

  /// From now on.
  func begin() { noted.withLock { $0 = [] } }
  var reads: [Range<Int>] { noted.withLock { $0 ?? [] } }

  var byteCount: UInt64 { inner.byteCount }
  var traits: DiskTraits { inner.traits }
  func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) {
    let blocks = Int(offset >> 12)..<Int((offset + UInt64(target.count) + 4095) >> 12)
    noted.withLock { $0?.append(blocks) }
    inner.read(at: offset, into: target)
  }
  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool) {
    inner.write(bytes, at: offset, durable: durable)
  }
  func flush() throws(StoreError) { try inner.flush() }
  func zero(at offset: UInt64, count: UInt64, _ options: ZeroOptions) {
    inner.zero(at: offset, count: count, options)
  }
  func trim(at offset: UInt64, count: UInt64) { inner.trim(at: offset, count: count) }
  func status(at offset: UInt64, count: UInt64, extentsMax: Int) -> [NBDExtent] {
    inner.status(at: offset, count: count, extentsMax: extentsMax)
  }
}
