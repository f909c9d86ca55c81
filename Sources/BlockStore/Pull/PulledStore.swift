import Base
import DiskStrategy
import HostIO
public import NBD
import Synchronization

/// A disk whose content is fetched from another server, on demand and in the background, while it is used. Without a
/// pull it is what is underneath.
public final class PulledStore: DiskStore {
  public let byteCount: UInt64
  public let traits: DiskTraits
  let image: any DiskStore
  let name: String
  let identity: String
  /// Where the map of a pull is kept; nil: nowhere, and then the disk can't be pulled.
  let path: String?
  let limits: DiskPull.Limits
  let log: @Sendable (String) -> Void
  /// Changes of the image that no pull knows of.
  private let changes = Turnstile()
  private let hasRoute = Atomic(false)
  private let route = Mutex<DiskPull?>(nil)
  /// The last pull that is over, for who asks.
  private let last = Mutex<DiskPullStatus?>(nil)

  /// Goes on with a pull that an earlier server began.
  ///
  /// - Parameters:
  ///   - identity: of the image; a map is for one image.
  ///   - resolve: finds the source by its URI.
  ///   - trustsSource: the source is the same disk, whatever it says of itself now.
  /// Throws when the image isn't a disk without its source, and that can't be used.
  public convenience init(
    _ image: any DiskStore, name: String, identity: String, path: String?,
    resolve: MovableStore.Resolve, trustsSource: Bool = false,
    log: @escaping @Sendable (String) -> Void
  ) throws {
    try self.init(
      image, name: name, identity: identity, path: path, limits: DiskPull.Limits(),
      boot: BootIdentity.current, resolve: resolve, trustsSource: trustsSource, log: log)
  }

  init(
    _ image: any DiskStore, name: String, identity: String, path: String?, limits: DiskPull.Limits,
    boot: String, resolve: MovableStore.Resolve, trustsSource: Bool = false,
    log: @escaping @Sendable (String) -> Void
  ) throws {
    (self.image, self.name, self.identity, self.path) = (image, name, identity, path)
    (self.limits, self.log) = (limits, log)
    (byteCount, traits) = (image.byteCount, image.traits)
    guard let path, let geometry = DiskGeometry(byteCount: image.byteCount),
      let file = try PullFile.open(path, geometry)
    else { return }
    guard file.identity == identity else {
      throw MoveError("\(path) is the map of another image: of \(file.identity), not \(identity)")
    }
    guard !traits.isReadOnly else {
      throw MoveError(
        "the disk \(name) is being pulled from \(file.uri): serve it writable until all of it is here"
      )
    }
    let map = try file.load(boot: boot)
    guard map.missing.population > 0 else {
      // All of it is here, and only the map's end is missing.
      try image.flush()
      file.remove()
      return
    }
    let source = try resolve(file.uri)
    let link = try open(source, file, geometry, trustsSource)
    if trustsSource { try file.setPeer(ExportIdentity.told(by: link)) }
    begin(
      DiskPull(name: name, store: image, PullState(source, file, map: map), limits, log: log),
      over: link)
  }

  /// What is missing nobody else has: without it the image isn't served.
  private func open(
    _ source: MoveDestination, _ file: PullFile, _ geometry: DiskGeometry, _ trustsSource: Bool
  ) throws -> RemoteStore {
    let deadlineMs = MonotonicClock.nowMs + limits.openingMs
    while true {
      do {
        return try DiskPull.connect(
          source, geometry, limits, peer: trustsSource ? nil : file.peer)
      } catch {
        // A source that is another disk won't become this one by waiting.
        guard !(error is MoveError), MonotonicClock.nowMs < deadlineMs else {
          throw MoveError(
            "some of the disk \(name) is only at \(source.uri), which can't be used: \(error)")
        }
        MonotonicClock.sleep(us: 200_000)
      }
    }
  }

  // MARK: Pulls

  /// The pull that is under way, or was cancelled; nil: the image is the disk.
  var pull: DiskPull? {
    guard hasRoute.load(ordering: .sequentiallyConsistent) else { return nil }
    return route.withLock { $0 }
  }

  /// The pull that is under way, or the last one.
  var status: DiskPullStatus? { pull?.status ?? last.withLock { $0 } }

  /// From now on requests go through the pull.
  func begin(_ pull: DiskPull, over link: RemoteStore) {
    route.withLock { route in
      route = pull
      hasRoute.store(true, ordering: .sequentiallyConsistent)
    }
    // What began before writes to the image yet; nothing may be stored under it.
    changes.turn()
    pull.start(link) { [weak self, weak pull] in
      if let self, let pull { ended(pull) }
    }
  }

  private func ended(_ pull: DiskPull) {
    let status = pull.status
    guard status.phase == .done else { return }
    log("\(name): all of it is here; \(status.source) is not needed any more")
    last.withLock { $0 = status }
    route.withLock { route in
      // The next one may have begun already.
      guard route === pull else { return }
      hasRoute.store(false, ordering: .sequentiallyConsistent)
      route = nil
    }
  }
}

extension PulledStore {
  public func read(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    if let pull { return try unsafe pull.read(at: offset, into: target) }
    try unsafe image.read(at: offset, into: target)
  }

  public func readAtOnce(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) -> Bool? {
    if let pull { return unsafe pull.readAtOnce(at: offset, into: target) }
    return unsafe image.readAtOnce(at: offset, into: target)
  }

  public func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool
  ) throws(StoreError) {
    switch enterChange() {
    case .pulled(let pull): try unsafe pull.write(bytes, at: offset, durable: durable)
    case .plain(let entered):
      defer { changes.leave(entered) }
      try unsafe image.write(bytes, at: offset, durable: durable)
    }
  }

  public func zero(
    at offset: UInt64, count: UInt64, _ options: ZeroOptions
  ) throws(StoreError) {
    switch enterChange() {
    case .pulled(let pull): try pull.zero(at: offset, count: count, options)
    case .plain(let entered):
      defer { changes.leave(entered) }
      try image.zero(at: offset, count: count, options)
    }
  }

  public func trim(at offset: UInt64, count: UInt64) throws(StoreError) {
    switch enterChange() {
    case .pulled(let pull): try pull.trim(at: offset, count: count)
    case .plain(let entered):
      defer { changes.leave(entered) }
      try image.trim(at: offset, count: count)
    }
  }

  private enum Entry {
    case pulled(DiskPull)
    /// What `leave` has to be given.
    case plain(UInt64)
  }

  private func enterChange() -> Entry {
    let entered = changes.enter()
    guard let pull else { return .plain(entered) }
    changes.leave(entered)
    return .pulled(pull)
  }

  public func flush() throws(StoreError) {
    if let pull { return try pull.flush() }
    try image.flush()
  }

  public func cache(at offset: UInt64, count: UInt64) { image.cache(at: offset, count: count) }
  public func forget(at offset: UInt64, count: UInt64) { image.forget(at: offset, count: count) }

  public func mayWait(at offset: UInt64, count: UInt64, writes: Bool) -> Bool {
    pull?.mayWait(at: offset, count: count, writes: writes) ?? false
  }

  public var isAtRest: Bool { pull == nil && image.isAtRest }

  public func status(
    at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    if let pull {
      return try pull.status(at: offset, count: count, extentsMax: extentsMax)
    }
    return try image.status(at: offset, count: count, extentsMax: extentsMax)
  }

  public var contexts: [String] { image.contexts }

  public func status(
    of context: String, at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    guard context != NBDExtent.allocation else {
      return try status(at: offset, count: count, extentsMax: extentsMax)
    }
    return try image.status(of: context, at: offset, count: count, extentsMax: extentsMax)
  }
}
