import HostIO
import NBD
import Synchronization

// An image changes hands: what its server is told by whoever changes a guest's QEMU over (`LendingStep`), and what it finds
// out by itself.
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
  func forget() {
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

  func take(onlyIfNone: Bool) throws {
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
    // While QEMU has the image, its bitmaps are QEMU's.
    let bitmaps = use == .locked ? bitmaps : []
    let image = try Self.wait {
      try await Qcow2Image.open(path, use, bitmaps: bitmaps, in: folder)
    }
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
