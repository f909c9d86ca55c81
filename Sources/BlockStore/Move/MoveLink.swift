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

  /// - Parameter silence: nil: a server that is silent is waited for as long as it takes.
  public func connect(silence: SilenceLimit? = nil) throws -> RemoteStore {
    try RemoteStore(
      over: dial(), exportName: exportName, isReadOnly: false, secure: secure, silence: silence)
  }
}

/// One connection to the destination. Calls come from any number of threads.
final class MoveLink: Sendable {
  /// Counts connections of a move, from 1.
  let id: UInt64
  let store: RemoteStore
  private let canZero = Atomic(true)
  private let load = Mutex((count: 0, flushCount: 0, sinceUs: UInt64(0)))

  init(_ id: UInt64, _ store: RemoteStore) { (self.id, self.store) = (id, store) }

  var isBroken: Bool { store.isBroken }

  /// A destination that owes answers and gives none for longer is given up, in microseconds.
  private static let silenceUsMax: UInt64 = 10_000_000
  /// The same while it owes a flush: a disk with a large cache behind it takes its time, and is no less alive.
  private static let flushUsMax: UInt64 = 120_000_000

  /// Whether the destination has owed answers and given none for too long.
  ///
  /// - Parameter isHurried: the guest's writes wait for these answers, and could go on without.
  func isSilent(_ nowUs: UInt64, isHurried: Bool) -> Bool {
    load.withLock { load in
      let limitUs = load.flushCount > 0 && !isHurried ? Self.flushUsMax : Self.silenceUsMax
      return load.count > 0 && nowUs - min(load.sinceUs, nowUs) > limitUs
    }
  }

  private func noteSent() {
    let nowUs = MonotonicClock.nowUs
    load.withLock { load in
      if load.count == 0 { load.sinceUs = nowUs }
      load.count += 1
    }
  }

  private func noteAnswer() {
    let nowUs = MonotonicClock.nowUs
    load.withLock { load in
      load.count -= 1
      load.sinceUs = nowUs
    }
  }

  /// A write that is on its way.
  struct Pending {
    fileprivate let pending: RemoteStore.Pending
  }

  /// `finish` has to follow.
  func startWrite(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64
  ) throws(StoreError) -> Pending {
    noteSent()
    do throws(StoreError) {
      return Pending(pending: try unsafe store.startWrite(bytes, at: offset))
    } catch {
      noteAnswer()
      throw error
    }
  }

  func finish(_ pending: Pending) throws(StoreError) {
    defer { noteAnswer() }
    try store.finish(pending.pending)
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
    noteSent()
    defer { noteAnswer() }
    try store.zero(at: offset, count: count, options)
  }

  func flush() throws(StoreError) {
    noteSent()
    load.withLock { $0.flushCount += 1 }
    defer {
      load.withLock { $0.flushCount -= 1 }
      noteAnswer()
    }
    try store.flush()
  }

  func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(StoreError) {
    noteSent()
    defer { noteAnswer() }
    try unsafe store.read(at: offset, into: target)
  }

  func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool
  ) throws(StoreError) {
    noteSent()
    defer { noteAnswer() }
    try unsafe store.write(bytes, at: offset, durable: durable)
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
