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
  private let overlay: ImageOverlay
  private let folder: String
  private let holding = Mutex(Holding.none)
  private let calls = Turnstile()
  /// One change of `holding` at a time.
  private let orders = Mutex(())

  /// How long a request waits for the image's locks, and how often it tries, in milliseconds.
  private static let patienceMs: UInt64 = 30_000
  private static let retryMs: UInt64 = 200

  private init(_ path: String, _ folder: String, _ looked: RemoteStore) {
    (self.path, self.folder, overlay) = (path, folder, ImageOverlay(of: path))
    byteCount = looked.byteCount
    var traits = DiskTraits()
    traits.blockSizes = looked.traits.blockSizes
    traits.isPrompt = false
    self.traits = traits
  }

  /// Finds out the image's size, and leaves it to whoever has it.
  ///
  /// - Parameter folder: made whenever the image is being opened.
  public static func find(_ path: String, in folder: String) async throws -> LentImage {
    let looked = try await Qcow2Image.open(path, .frozen, in: folder)
    let image = LentImage(path, folder, looked.store)
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

// MARK: Handing over

extension LentImage {
  /// QEMU writes to the image no more, and has it open yet: from now on reads are answered, from what it is now.
  func look() throws {
    try orders.withLock { _ in
      switch holding.withLock({ $0 }) {
      case .owned, .releasing:
        throw MoveError("the image is open for writing here already")
      case .none: try change(to: frozen(), from: nil)
      case .reading(let old, _): try change(to: frozen(), from: old)
      }
    }
  }

  private func frozen() throws -> Holding {
    let isOverlaid = overlay.holdsSomething
    return .reading(try open(.frozen), overlaid: isOverlaid)
  }

  /// The overlay has gone, and so has the guest's QEMU to or from the image without telling us: what was read of it may
  /// be old.
  private func forget() {
    orders.withLock { _ in
      guard case .reading(let old, overlaid: true) = holding.withLock({ $0 }),
        !overlay.holdsSomething
      else { return }
      try? change(to: .none, from: old)
    }
  }

  /// Sees to it that nobody else has the image open; throws when somebody has.
  func own() throws {
    if isAtRest {
      guard !overlay.isOrphaned() else {
        throw MoveError("a guest died that wrote to \(overlay.path)")
      }
      try take(onlyIfNone: true)
    }
    guard case .owned(let image) = holding.withLock({ $0 }) else {
      throw MoveError("the guest's QEMU has the image")
    }
    try Self.checkIsAlive(image)
  }

  private static func checkIsAlive(_ image: Qcow2Image) throws(MoveError) {
    guard !image.store.isBroken else {
      throw MoveError("the image's qemu-nbd has ended; start the server anew")
    }
  }

  /// QEMU has closed the image: from now on it may be written to here. Throws when somebody has it open; then
  /// everything is as it was.
  func take() throws { try take(onlyIfNone: false) }

  private func take(onlyIfNone: Bool) throws {
    try orders.withLock { _ in
      switch holding.withLock({ $0 }) {
      case .owned(let image), .releasing(let image):
        if !onlyIfNone { try Self.checkIsAlive(image) }
      case .none: try change(to: .owned(open(.locked)), from: nil)
      case .reading(let old, _):
        if !onlyIfNone { try change(to: .owned(open(.locked)), from: old) }
      }
    }
  }

  /// From now on QEMU may open the image: everything is on stable storage, and nothing is written here any more.
  /// Throws when the image can't be flushed; then everything is as it was.
  func release() throws {
    try orders.withLock { _ in
      switch holding.withLock({ $0 }) {
      case .none: try change(to: frozen(), from: nil)
      case .reading: break
      case .owned(let old), .releasing(let old):
        holding.withLock { $0 = .releasing(old) }
        do {
          // Writes that began before have ended then.
          calls.turn()
          try old.store.flush()
          try change(to: frozen(), from: old)
        } catch {
          holding.withLock { $0 = .owned(old) }
          throw error
        }
      }
    }
  }

  /// QEMU has the image for good: it isn't held open here.
  func rest() throws {
    try orders.withLock { _ in
      switch holding.withLock({ $0 }) {
      case .none: break
      case .owned, .releasing: throw MoveError("the image has not been given back")
      case .reading(let old, _): try change(to: .none, from: old)
      }
    }
  }

  /// The old one is closed when no request uses it any more.
  private func change(to new: Holding, from old: Qcow2Image?) throws {
    holding.withLock { $0 = new }
    calls.turn()
    guard let old else { return }
    try Self.wait { await old.close() }
  }

  private func open(_ use: Qcow2Image.Use) throws -> Qcow2Image {
    let (path, folder) = (path, folder)
    let image = try Self.wait { try await Qcow2Image.open(path, use, in: folder) }
    guard image.store.byteCount == byteCount else {
      try Self.wait { await image.close() }
      throw MoveError("the image has another size now; start the server anew")
    }
    return image
  }

  /// For threads that may block.
  private static func wait<Value: Sendable>(
    _ body: @escaping @Sendable () async throws -> Value
  ) throws -> Value {
    let result = Guarded<Result<Value, any Error>?>(nil)
    Task {
      let ended: Result<Value, any Error>
      do { ended = .success(try await body()) } catch { ended = .failure(error) }
      result.update { $0 = ended }
    }
    while true {
      if let ended = result.wait(until: { $0 }) { return try ended.get() }
    }
  }
}

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
}
