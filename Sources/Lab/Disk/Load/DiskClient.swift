import Base
import BlockStore
import HostIO
import Synchronization

/// A disk's clients: threads that read and write whole blocks over one NBD connection, know what they wrote last, and
/// note when each request was answered.
final class DiskClient: Sendable {
  /// What all threads saw.
  struct Report: Sendable {
    var requests: [Latency.Request] = []
    var wrongReads: UInt64 = 0
    /// Why a thread gave up, in words.
    var failure: String?
    /// Versions of a thread's blocks: block `index * depth + thread`.
    var versions: [UInt64] = []
  }

  /// Requests kept of a thread: over an hour at 1000 a second.
  static let requestCountMax = 4_000_000
  /// Longer than a server waits for a destination that is gone.
  private static let lastAnswerMs = 40_000

  private let disk: MatrixDisk
  private let content: BlockContent
  private let seed: UInt64
  private let store: RemoteStore
  private let reports: Mutex<[Report]>
  private let isStopped = Mutex(false)
  private let threads = Mutex<[WorkerThread]>([])

  /// Connects to the export `name` behind a unix socket, and starts. Blocks.
  init(_ disk: MatrixDisk, socket path: String, export name: String, seed: UInt64) throws {
    (self.disk, self.seed) = (disk, seed)
    content = BlockContent(seed: seed, blockBytes: disk.load.blockBytes)
    let remote = try RemoteStore(
      over: try UnixSocket.connect(path: path), exportName: name, isReadOnly: false)
    guard remote.byteCount == disk.byteCount else {
      remote.close()
      throw LabError("\(path) serves \(remote.byteCount) bytes, not \(disk.byteCount)")
    }
    store = remote
    reports = Mutex(Array(repeating: Report(), count: disk.load.depth))
    let started = (0..<disk.load.depth).map { id in
      WorkerThread("disk-client-\(id)") { [self] in run(id) }
    }
    threads.withLock { $0 = started }
  }

  /// Lets every thread finish its request, and closes.
  func stop() async {
    isStopped.withLock { $0 = true }
    let threads = threads.withLock { threads in
      defer { threads = [] }
      return threads
    }
    // A request that nobody answers any more.
    let closer = Task { [store] in
      try await Task.sleep(for: .milliseconds(Self.lastAnswerMs))
      store.close()
    }
    _ = try? await WorkerThread.run("disk-clients") { for thread in threads { thread.join() } }
    closer.cancel()
    store.close()
  }

  /// Observations so far, in the order of their times.
  var report: Report {
    var whole = Report()
    for part in reports.withLock({ $0 }) {
      whole.requests += part.requests
      whole.wrongReads += part.wrongReads
      whole.failure = whole.failure ?? part.failure
    }
    whole.requests.sort { $0.endUs < $1.endUs }
    return whole
  }

  /// The last version of each block; true once `stop` has returned, where nothing failed.
  var versions: [UInt64] {
    let parts = reports.withLock { $0.map(\.versions) }
    var whole = [UInt64](repeating: 0, count: Int(disk.blockCount))
    for (id, part) in parts.enumerated() {
      for (index, version) in part.enumerated() { whole[index * disk.load.depth + id] = version }
    }
    return whole
  }

  private func run(_ id: Int) {
    let (load, depth) = (disk.load, UInt64(disk.load.depth))
    guard UInt64(id) < disk.blockCount else { return }
    let own = (disk.blockCount - UInt64(id) + depth - 1) / depth
    update(id) { $0.versions = Array(repeating: 0, count: Int(own)) }
    var random = SplitMix64(seed: seed &+ UInt64(id) &* 0x1234_5677)
    var picker = BlockPicker(load.pattern, count: own)
    var words = [UInt64](repeating: 0, count: content.wordCount)
    let pauseUs = load.operationsPerSecond.map { depth * 1_000_000 / max($0, 1) } ?? 0
    var dueUs = MonotonicClock.nowUs
    while !isStopped.withLock({ $0 }) {
      let index = picker.next(&random)
      let isWrite = random.next() % 100 < load.writePercent
      let startUs = MonotonicClock.nowUs
      do {
        try operate(id, Int(index), isWrite, &words)
      } catch {
        return update(id) { $0.failure = "\(error)" }
      }
      let endUs = MonotonicClock.nowUs
      update(id) {
        guard $0.requests.count < Self.requestCountMax else { return }
        $0.requests.append(.init(endUs: endUs, tookUs: UInt32(clamping: endUs - startUs)))
      }
      // Who is late doesn't catch up: a guest doesn't, either.
      dueUs = max(dueUs + pauseUs, endUs)
      if dueUs > endUs { MonotonicClock.sleep(us: dueUs - endUs) }
    }
  }

  private func operate(_ id: Int, _ index: Int, _ isWrite: Bool, _ words: inout [UInt64]) throws {
    let block = UInt64(index * disk.load.depth + id)
    let offset = block * UInt64(disk.load.blockBytes)
    let version = reports.withLock { $0[id].versions[index] }
    guard isWrite else {
      // SAFETY: the array's own bytes, for the call alone.
      try unsafe words.withUnsafeMutableBytes { raw in
        try unsafe store.read(at: offset, into: raw)
      }
      if !content.matches(words, block: block, version: version) {
        update(id) { $0.wrongReads += 1 }
      }
      return
    }
    content.fill(&words, block: block, version: version + 1)
    // SAFETY: the array's own bytes, for the call alone.
    try unsafe words.withUnsafeBytes { raw in
      try unsafe store.write(raw, at: offset, durable: false)
    }
    update(id) { $0.versions[index] = version + 1 }
  }

  private func update(_ id: Int, _ body: (inout Report) -> Void) {
    reports.withLock { body(&$0[id]) }
  }
}
