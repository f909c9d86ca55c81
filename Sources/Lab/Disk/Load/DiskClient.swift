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

  /// Where requests go.
  private struct Route {
    /// Nil: nowhere yet; they wait.
    var store: RemoteStore?
    /// Requests without an answer.
    var underWay = 0
  }

  /// Requests kept of a thread: over an hour at 1000 a second.
  static let requestCountMax = 4_000_000
  /// Longer than a server waits for a destination that is gone.
  private static let lastAnswerMs = 40_000

  private let disk: MatrixDisk
  private let content: BlockContent
  private let seed: UInt64
  private let route: Mutex<Route>
  private let reports: Mutex<[Report]>
  private let isStopped = Mutex(false)
  /// Of each block of the disk, when the clients began.
  private let firstVersions: [UInt64]
  private let threads = Mutex<[WorkerThread]>([])

  /// Connects to the export `name` behind a unix socket, and starts. Blocks.
  ///
  /// - Parameter versions: of each block of the disk as it is; nil: all are the first.
  init(
    _ disk: MatrixDisk, socket path: String, export name: String, seed: UInt64,
    versions: [UInt64]? = nil
  ) throws {
    (self.disk, self.seed) = (disk, seed)
    let blockCount = Int(clamping: disk.blockCount)
    firstVersions = versions ?? Array(repeating: 0, count: blockCount)
    content = BlockContent(seed: seed, blockBytes: disk.load.blockBytes)
    route = Mutex(Route(store: try Self.connect(disk, path, name)))
    reports = Mutex(Array(repeating: Report(), count: disk.load.depth))
    let started = (0..<disk.load.depth).map { id in
      WorkerThread("disk-client-\(id)") { [self] in run(id) }
    }
    threads.withLock { $0 = started }
  }

  private static func connect(
    _ disk: MatrixDisk, _ path: String, _ name: String
  ) throws -> RemoteStore {
    let remote = try RemoteStore(
      over: try UnixSocket.connect(path: path), exportName: name, isReadOnly: false)
    guard remote.byteCount == disk.byteCount else {
      remote.close()
      throw LabError("\(path) serves \(remote.byteCount) bytes, not \(disk.byteCount)")
    }
    return remote
  }

  /// Waits for the answers that are still to come, and closes; further requests wait until `goOn`, and that is part of
  /// the time that they take.
  func hold() async {
    let store = route.withLock { route in
      defer { route.store = nil }
      return route.store
    }
    await close(store) { [self] in
      while route.withLock({ $0.underWay }) > 0 { MonotonicClock.sleep(us: 200) }
    }
  }

  /// Sends all further requests to another server of the disk: the export `name` behind a unix socket. Blocks.
  func goOn(socket path: String, export name: String) throws {
    let store = try Self.connect(disk, path, name)
    route.withLock { $0.store = store }
  }

  /// Lets every thread finish its request, and closes.
  func stop() async {
    isStopped.withLock { $0 = true }
    let threads = threads.withLock { threads in
      defer { threads = [] }
      return threads
    }
    await close(route.withLock { $0.store }) { for thread in threads { thread.join() } }
  }

  /// Closes a connection once nothing is under way there.
  ///
  /// - Parameter wait: returns then; blocks.
  private func close(_ store: RemoteStore?, after wait: @escaping @Sendable () -> Void) async {
    // A request that nobody answers any more.
    let closer = Task {
      try await Task.sleep(for: .milliseconds(Self.lastAnswerMs))
      store?.close()
    }
    _ = try? await WorkerThread.run("disk-clients") { wait() }
    closer.cancel()
    store?.close()
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
    var whole = firstVersions
    for (id, part) in parts.enumerated() {
      for (index, version) in part.enumerated() { whole[index * disk.load.depth + id] = version }
    }
    return whole
  }

  private func run(_ id: Int) {
    let (load, depth) = (disk.load, UInt64(disk.load.depth))
    let used = disk.usedBlockCount
    guard UInt64(id) < used else { return }
    let own = (used - UInt64(id) + depth - 1) / depth
    let first = firstVersions
    update(id) { report in
      report.versions = stride(from: id, to: Int(used), by: load.depth).map { first[$0] }
    }
    var random = SplitMix64(seed: seed &+ UInt64(id) &* 0x1234_5677)
    var picker = BlockPicker(load.pattern, count: own, hot: disk.hotBlockCount.map { $0 / depth })
    var words = [UInt64](repeating: 0, count: content.wordCount)
    let pauseUs = load.operationsPerSecond.map { depth * 1_000_000 / max($0, 1) } ?? 0
    var dueUs = MonotonicClock.nowUs
    while !isStopped.withLock({ $0 }) {
      let index = picker.next(&random)
      let isWrite = random.next() % 100 < load.writePercent
      let startUs = MonotonicClock.nowUs
      guard let store = take() else { return }
      do {
        defer { route.withLock { $0.underWay -= 1 } }
        try operate(store, id, Int(index), isWrite, &words)
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

  /// Where a request goes; nil: the clients end.
  private func take() -> RemoteStore? {
    while !isStopped.withLock({ $0 }) {
      let store = route.withLock { route in
        if route.store != nil { route.underWay += 1 }
        return route.store
      }
      if let store { return store }
      MonotonicClock.sleep(us: 500)
    }
    return nil
  }

  private func operate(
    _ store: RemoteStore, _ id: Int, _ index: Int, _ isWrite: Bool, _ words: inout [UInt64]
  ) throws {
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
