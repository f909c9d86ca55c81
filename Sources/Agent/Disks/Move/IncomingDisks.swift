import BlockStore
import HostIO
import Logging

/// Disks that come with a guest: images that were made for it here, which the source's QEMU writes to until the guest
/// is handed over.
///
/// The images are new files, or older copies that nobody else has open at the beginning; the waiting QEMU leaves them
/// alone until it gets the guest: they need no locks.
final class IncomingDisks: Sendable {
  /// How long requests that have arrived may take at the end, in milliseconds.
  static let drainTimeoutMs: UInt64 = 20_000
  private static let serverThreads = 4

  private struct State {
    var server: DiskServer?
    var disks: [ServedDisk] = []
    var isClosed = false
  }

  /// The claims that are to be copied, with their paths here.
  let wanted: [Wanted]
  /// What names the drafts of the images.
  let label: String
  private let socketPath: String
  private let state = Guarded(State())
  private let tunnels = ByteTunnels()
  private let files = Guarded<[MadeFile]>([])

  struct Wanted: Sendable, Equatable {
    let claim: DiskClaim
    let path: String
  }

  init(_ wanted: [Wanted], label: String, socketPath: String) {
    (self.wanted, self.label, self.socketPath) = (wanted, label, socketPath)
  }

  /// The export's name of the disk with this number, in the order of the offer.
  static func export(_ number: Int) -> String { "disk-\(number)" }

  /// Makes the images, each step in the journal first, and serves them.
  func make(_ journal: Journal) async throws {
    // Whoever cleans up leaves older copies alone.
    let new = wanted.filter { $0.claim.updatesCopy != true }
    try await journal.append(.disksPlanned(paths: new.map(\.path)))
    let made = try await Blocking.run { [self] in
      for disk in wanted where disk.claim.updatesCopy == true {
        // With locks, which are gone again with this.
        _ = try FileStore(path: disk.path, FileStore.Options())
      }
      for disk in new {
        let file = try MadeFile.make(disk.path, label: label, byteCount: disk.claim.byteCount)
        files.update { $0.append(file) }
      }
      return files.read { $0 }
    }
    try await journal.append(.disksMade(made))
    try await Blocking.run { [self] in
      for disk in new { MadeFile.dropDraft(disk.path, label: label) }
      try serve()
    }
  }

  private func serve() throws {
    var store = FileStore.Options()
    store.isInUse = true
    let disks = try wanted.enumerated().map { number, disk in
      ServedDisk(name: Self.export(number), store: try FileStore(path: disk.path, store))
    }
    var options = DiskServer.Options()
    options.threadCount = Self.serverThreads
    let server = DiskServer(disks, options)
    server.serve(try UnixSocket.listen(path: socketPath))
    state.update { ($0.server, $0.disks) = (server, disks) }
  }

  /// Takes a connection of the source's QEMU. Says why not.
  func attach(_ socket: any ByteConnection) -> String? {
    guard state.read({ $0.server != nil && !$0.isClosed }) else { return "no disk is expected" }
    let near: StreamSocket
    do { near = try UnixSocket.connect(path: socketPath) } catch { return "\(error)" }
    tunnels.join(near, socket)
    return nil
  }

  /// Every block has been sent: puts all of them on stable storage and serves them no more. Returns the bytes that were
  /// written. Blocks.
  func close() throws -> UInt64 {
    let (server, disks) = state.read { ($0.server, $0.disks) }
    guard let server else { throw Ending.failed("there are no disks to close") }
    let failures = server.drain(timeoutMs: Self.drainTimeoutMs)
    tunnels.cut()
    guard failures.isEmpty else {
      throw Ending.failed(
        "the disks cannot be put on stable storage: "
          + failures.map { "\($0)" }.joined(separator: "; "))
    }
    guard server.connectionCount == 0 else {
      throw Ending.failed("requests for the disks do not end")
    }
    state.update { state in
      state.isClosed = true
      (state.server, state.disks) = (nil, [])
    }
    return disks.reduce(0) { $0 + $1.use.writtenBytes }
  }

  /// All blocks are here and on stable storage.
  var isClosed: Bool { state.read { $0.isClosed } }

  /// Ends the serving, whatever is left undone. Blocks.
  func stop() {
    tunnels.cut()
    let server = state.update { state in
      defer { (state.server, state.disks) = (nil, []) }
      return state.server
    }
    _ = server?.drain(timeoutMs: Self.drainTimeoutMs)
  }

  /// The guest does not come to live here: nothing of its disks stays. Blocks.
  func discard() {
    stop()
    for file in files.read({ $0 }) { file.remove() }
    for disk in wanted where disk.claim.updatesCopy != true {
      MadeFile.removeDraft(disk.path, label: label)
    }
  }

  /// The same after a crash, from the journal. Blocks.
  static func discard(_ story: DestinationStory, label: String) {
    for path in story.plannedDisks { MadeFile.removeDraft(path, label: label) }
    for file in story.madeDisks { file.remove() }
  }
}
