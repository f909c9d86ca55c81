import Base
public import HostIO
import NBD
import Synchronization

/// Where a disk goes: an export of an NBD server.
public struct MoveDestination: Sendable {
  /// For people, and as a part of the map's key.
  public let uri: String
  private let exportName: String
  private let dial: @Sendable () throws -> StreamSocket
  private let secure: RemoteStore.Secure?

  /// - Parameters:
  ///   - secure: makes TLS of a connection; nil: there is none.
  ///   - dial: makes a new connection, each time it is called.
  public init(
    uri: String, exportName: String, secure: RemoteStore.Secure? = nil,
    dial: @escaping @Sendable () throws -> StreamSocket
  ) {
    (self.uri, self.exportName, self.secure, self.dial) = (uri, exportName, secure, dial)
  }

  /// - Parameters:
  ///   - silence: nil: a server that is silent is waited for as long as it takes.
  ///   - moves: it is the connection of a move; a server that knows what that is ends earlier ones first.
  public func connect(silence: SilenceLimit? = nil, moves: Bool = false) throws -> RemoteStore {
    try RemoteStore(
      over: dial(), exportName: exportName, isReadOnly: false, secure: secure,
      contexts: moves ? [NBDExtent.mover] : [], silence: silence)
  }
}

/// One connection to the destination. Calls come from any number of threads.
///
/// It ends by itself when the destination owes answers and is silent (`SilenceLimit.destination`: a flush, a durable
/// write and zeros may take as long as the medium wants). Only the guest's own writes to both sides wait for less.
final class MoveLink: Sendable {
  /// Counts connections of a move, from 1.
  let id: UInt64
  let store: RemoteStore
  private let canZero = Atomic(true)
  private let awaited = Mutex((count: 0, sinceUs: UInt64(0)))

  init(_ id: UInt64, _ store: RemoteStore) { (self.id, self.store) = (id, store) }

  var isBroken: Bool { store.isBroken }

  /// The guest waits so long for a destination that gives no answers, in microseconds: it could go on without.
  private static let awaitedUsMax: UInt64 = 10_000_000

  /// Whether the guest's writes to both sides have waited for too long for any answer.
  ///
  /// - Parameter heldSinceUs: one waits since then until it may begin, for what is on its way; 0: none does.
  func holdsGuest(_ nowUs: UInt64, heldSinceUs: UInt64) -> Bool {
    awaited.withLock { awaited in
      guard awaited.count > 0 || heldSinceUs > 0 else { return false }
      let sinceUs = awaited.count > 0 ? awaited.sinceUs : max(awaited.sinceUs, heldSinceUs)
      return nowUs - min(sinceUs, nowUs) > Self.awaitedUsMax
    }
  }

  /// Has an answer waited for.
  private func answered<Answer>(
    _ body: () throws(StoreError) -> Answer
  ) throws(StoreError) -> Answer {
    defer {
      let nowUs = MonotonicClock.nowUs
      awaited.withLock { $0.sinceUs = nowUs }
    }
    return try body()
  }

  /// A write that is on its way.
  struct Pending {
    fileprivate let pending: RemoteStore.Pending
    fileprivate let isAwaited: Bool
  }

  /// `finish` has to follow.
  ///
  /// - Parameter isAwaited: the guest waits for it, and could go on without.
  func startWrite(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, isAwaited: Bool = false
  ) throws(StoreError) -> Pending {
    if isAwaited { noteAwaited() }
    defer { if isAwaited { awaited.withLock { $0.count -= 1 } } }
    return Pending(pending: try unsafe store.startWrite(bytes, at: offset), isAwaited: isAwaited)
  }

  private func noteAwaited() {
    let nowUs = MonotonicClock.nowUs
    awaited.withLock { awaited in
      if awaited.count == 0 { awaited.sinceUs = nowUs }
      awaited.count += 1
    }
  }

  /// What the guest's own disk takes between both is no silence of the destination's.
  func finish(_ pending: Pending) throws(StoreError) {
    if pending.isAwaited { noteAwaited() }
    defer { if pending.isAwaited { awaited.withLock { $0.count -= 1 } } }
    _ = try answered { () throws(StoreError) in try store.finish(pending.pending) }
  }

  /// Sends what is in the buffer; zeros as a range. Says how many bytes of data that took.
  func send(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(StoreError) -> Int {
    // SAFETY: the caller's buffer, for this look.
    let isZero = unsafe bytes.bytes.isAllZero
    if isZero, canZero.load(ordering: .relaxed) {
      do throws(StoreError) {
        try zero(at: offset, count: UInt64(bytes.count), [])
        return 0
      } catch {
        guard error.code == .notSupported else { throw error }
        canZero.store(false, ordering: .relaxed)
      }
    }
    let pending = try unsafe startWrite(bytes, at: offset)
    try finish(pending)
    return bytes.count
  }

  func zero(at offset: UInt64, count: UInt64, _ options: ZeroOptions) throws(StoreError) {
    try answered { () throws(StoreError) in try store.zero(at: offset, count: count, options) }
  }

  func flush() throws(StoreError) {
    try answered { () throws(StoreError) in try store.flush() }
  }

  func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(StoreError) {
    try answered { () throws(StoreError) in try unsafe store.read(at: offset, into: target) }
  }

  func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool
  ) throws(StoreError) {
    try answered { () throws(StoreError) in
      try unsafe store.write(bytes, at: offset, durable: durable)
    }
  }

  func close() { store.close() }
}

extension MoveLink {
  /// Zeros, for a client that was promised that it works.
  func makeZero(
    at offset: UInt64, count: UInt64, _ options: ZeroOptions
  ) throws(StoreError) {
    do throws(StoreError) {
      return try zero(at: offset, count: count, options)
    } catch {
      guard error.code == .notSupported, !options.contains(.fast) else { throw error }
    }
    let zeros = PageBuffer.zeroed(byteCount: Int(min(count, 1 << 20)))
    var done: UInt64 = 0
    while done < count {
      let part = Int(min(count - done, UInt64(zeros.byteCount)))
      // SAFETY: the buffer is this call's own.
      let bytes = unsafe UnsafeRawBufferPointer(zeros.part(0, part))
      try finish(try unsafe startWrite(bytes, at: offset + done))
      done += UInt64(part)
    }
    if options.contains(.durable) { try flush() }
  }
}
