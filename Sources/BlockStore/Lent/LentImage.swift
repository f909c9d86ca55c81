import HostIO
public import NBD
import Synchronization

/// A qcow2 image that a running guest's QEMU has open at first, and hands over and takes back without its guest stopping.
///
/// QEMU and the server never write to it at the same time, nor does either write while the other one reads what it has
/// not frozen: whoever wants to write takes QEMU's locks on the image. What was known of an image is forgotten whenever
/// somebody else may have written to it. A request that comes while nobody here has it open, as after a restart of this
/// server, waits until its locks can be had: also a flush, which may be about what an earlier server wrote, whose
/// `qemu-nbd` keeps the locks until it has flushed.
public final class LentImage: DiskStore {
  enum Holding: Sendable {
    /// QEMU has it, or nobody.
    case none
    /// QEMU has it open, and writes to it as little as we do: as long as there is an overlay, which was seen here
    /// (`overlaid`) unless the image has another path here.
    case reading(Qcow2Image, overlaid: Bool)
    /// Nobody else has it open.
    case owned(Qcow2Image)
    /// The same, and nobody writes any more.
    case releasing(Qcow2Image)
  }

  public let byteCount: UInt64
  public let traits: DiskTraits
  let path: String
  /// Dirty bitmaps that it has, told of while nobody else has it.
  let bitmaps: [String]
  let overlay: ImageOverlay
  let folder: String
  let holding = Mutex(Holding.none)
  let calls = Turnstile()
  /// One change of `holding` at a time.
  let orders = Mutex(())

  /// How long a request waits for the image's locks, and how often it tries, in milliseconds.
  private static let patienceMs: UInt64 = 30_000
  private static let retryMs: UInt64 = 200

  /// Whether nobody else has the image open, and it may be written to here.
  var isOwned: Bool {
    if case .owned = holding.withLock({ $0 }) { return true }
    return false
  }

  private init(_ path: String, _ bitmaps: [String], _ folder: String, _ looked: RemoteStore) {
    (self.path, self.bitmaps) = (path, bitmaps)
    (self.folder, overlay) = (folder, ImageOverlay(of: path))
    byteCount = looked.byteCount
    var traits = DiskTraits()
    traits.blockSizes = looked.traits.blockSizes
    traits.isPrompt = false
    self.traits = traits
  }

  /// Finds out the image's size, and leaves it to whoever has it.
  ///
  /// - Parameters:
  ///   - bitmaps: dirty bitmaps of the image's. Whoever has it open keeps them for itself until then, so whether they are
  ///     there is seen when the image is to be written to here: without them it isn't opened.
  ///   - folder: made whenever the image is being opened.
  public static func find(
    _ path: String, bitmaps: [String] = [], in folder: String
  ) async throws -> LentImage {
    let looked = try await Qcow2Image.open(path, .frozen, in: folder)
    let image = LentImage(path, bitmaps, folder, looked.store)
    await looked.close()
    return image
  }

  /// Ends what runs underneath, once what was written is flushed; no request may follow.
  public func close() async {
    switch holding.withLock({ $0 }) {
    case .none: break
    case .reading(let image, _), .owned(let image), .releasing(let image): await image.close()
    }
  }

  // MARK: Requests

  private func use<Result>(
    writes: Bool, _ body: (RemoteStore) throws(StoreError) -> Result
  ) throws(StoreError) -> Result {
    while true {
      let entered = calls.enter()
      switch holding.withLock({ $0 }) {
      case .owned(let image):
        defer { calls.leave(entered) }
        return try body(image.store)
      case .reading(_, overlaid: true) where !overlay.holdsSomething:
        calls.leave(entered)
        forget()
      case .reading(let image, _), .releasing(let image):
        defer { calls.leave(entered) }
        guard !writes else { throw StoreError(.notPermitted, "the guest's QEMU has the image") }
        return try body(image.store)
      case .none:
        calls.leave(entered)
        try claim()
      }
    }
  }

  /// Takes the image as soon as nobody else has it.
  private func claim() throws(StoreError) {
    let deadlineMs = MonotonicClock.nowMs + Self.patienceMs
    while true {
      guard !overlay.isOrphaned() else {
        throw StoreError(.inputOutput, "a guest died that wrote to an overlay of the image")
      }
      do {
        return try take(onlyIfNone: true)
      } catch {
        guard MonotonicClock.nowMs < deadlineMs else {
          throw StoreError(.inputOutput, "another program has the image open")
        }
        MonotonicClock.sleep(us: Self.retryMs * 1000)
      }
    }
  }
}

// MARK: The disk

extension LentImage {
  public func read(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    try use(writes: false) { store throws(StoreError) in
      try unsafe store.read(at: offset, into: target)
    }
  }

  public func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool
  ) throws(StoreError) {
    try use(writes: true) { store throws(StoreError) in
      try unsafe store.write(bytes, at: offset, durable: durable)
    }
  }

  public func zero(at offset: UInt64, count: UInt64, _ options: ZeroOptions) throws(StoreError) {
    try use(writes: true) { store throws(StoreError) in
      try store.zero(at: offset, count: count, options)
    }
  }

  public func trim(at offset: UInt64, count: UInt64) throws(StoreError) {
    try use(writes: true) { store throws(StoreError) in try store.trim(at: offset, count: count) }
  }

  public func flush() throws(StoreError) {
    try use(writes: false) { store throws(StoreError) in try store.flush() }
  }

  public var isAtRest: Bool {
    if case .none = holding.withLock({ $0 }) { return true }
    return false
  }

  public func status(
    at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    try use(writes: false) { store throws(StoreError) in
      try store.status(at: offset, count: count, extentsMax: extentsMax)
    }
  }

  public var contexts: [String] {
    [NBDExtent.allocation] + bitmaps.map(NBDExtent.dirtyBitmap)
  }

  public func status(
    of context: String, at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    try use(writes: false) { store throws(StoreError) in
      try store.status(of: context, at: offset, count: count, extentsMax: extentsMax)
    }
  }
}
