import Base
import DiskStrategy
import HostIO
import NBD
import Synchronization

/// A store that a surrogate is in, and how it is opened again when its connection has broken.
public struct SurrogatePlace: Sendable {
  /// Path or URI, for people and for the next server.
  public let name: String
  let open: @Sendable () throws -> any DiskStore

  /// - Parameter open: opens the store, again after each broken connection; may block.
  public init(name: String, open: @escaping @Sendable () throws -> any DiskStore) {
    (self.name, self.open) = (name, open)
  }

  /// - Parameter silence: after that the export's connection is over, and dialled anew for reads alone.
  public init(name: String, export: MoveDestination, silence: SilenceLimit = .surrogate) {
    self.init(name: name) { try export.connect(silence: silence) }
  }
}

/// A surrogate's log: one header of its own, and units of 4096 bytes behind it.
///
/// ```
/// 0     magic u64, log u64, checksum of both u64, little endian; zeros up to 4096
/// 4096  unit 0
/// ```
final class SurrogateLink: Sendable {
  private static let magic: UInt64 = 0x314C_5352_5553_4447  // GDSURSL1
  static let unitByteCount = DiskGeometry.blockByteCount
  /// How long a read waits for a surrogate that can't be reached, in milliseconds.
  static let patienceMs: UInt64 = 30_000
  private static let retryUs: UInt64 = 200_000

  let place: SurrogatePlace
  let log: UInt64
  let byteCount: UInt64
  private struct State: Sendable {
    /// nil: closed, so that whoever has it locked lets it go with the last call.
    var store: (any DiskStore)?
    /// Counts connections.
    var generation: UInt64 = 1
    /// Of a connection before this one.
    var silence: ServerSilence?
  }
  private let state: Mutex<State>
  private let dialing = Mutex(())

  private init(_ place: SurrogatePlace, _ store: any DiskStore, log: UInt64) {
    (self.place, self.log, byteCount) = (place, log, store.byteCount)
    state = Mutex(State(store: store))
  }

  /// Its server was silent for too long, once; nil: never.
  var silence: ServerSilence? {
    state.withLock { $0.silence ?? Self.silence(of: $0.store) }
  }

  private static func silence(of store: (any DiskStore)?) -> ServerSilence? {
    (store as? RemoteStore)?.silence
  }

  // MARK: Opening

  /// Opens a store that holds nothing else, for a log; nothing is written yet.
  static func make(_ place: SurrogatePlace) throws -> SurrogateLink {
    let store = try place.open()
    do {
      return try make(place, store, log: .random(in: 1 ... .max))
    } catch {
      close(store)
      throw error
    }
  }

  private static func make(
    _ place: SurrogatePlace, _ store: any DiskStore, log: UInt64
  ) throws -> SurrogateLink {
    let traits = store.traits
    guard !traits.isReadOnly else { throw MoveError("the surrogate is read-only") }
    guard traits.blockSizes.minimum <= UInt32(unitByteCount) else {
      throw MoveError("the surrogate takes only larger requests")
    }
    let least = (SurrogateIndex.segmentsMin * SurrogateIndex.segmentUnitCount + 1) * unitByteCount
    guard store.byteCount >= UInt64(least) else {
      throw MoveError("the surrogate has \(store.byteCount) bytes, and \(least) are the least")
    }
    guard try header(of: store) == nil else {
      throw MoveError(
        "\(place.name) is a surrogate already; if its disk is gone, clear its first 4096 bytes")
    }
    return SurrogateLink(place, store, log: log)
  }

  /// From now on the store is this log.
  func begin() throws(StoreError) {
    let words = [Self.magic, log]
    try writeHeader(words + [SurrogateRecord.checksum(words)], to: try current().store)
  }

  /// Opens the log that an earlier server left.
  static func open(_ place: SurrogatePlace, log: UInt64) throws -> SurrogateLink {
    let store = try place.open()
    do {
      try check(store, log)
    } catch {
      close(store)
      throw error
    }
    return SurrogateLink(place, store, log: log)
  }

  private static func check(_ store: any DiskStore, _ log: UInt64) throws {
    guard try header(of: store) == log else {
      throw MoveError("what is there now is not the surrogate that the disk's data went to")
    }
  }

  /// The log that the store has; nil: its first block is zeros. Throws when it is something else.
  private static func header(of store: any DiskStore) throws -> UInt64? {
    let buffer = PageBuffer(byteCount: unitByteCount)
    // SAFETY: the buffer is this call's own.
    try unsafe store.read(at: 0, into: buffer.part(0, unitByteCount))
    if buffer.span(unitByteCount).isAllZero { return nil }
    var cursor = ByteCursor(buffer.span(24))
    var words: [UInt64] = []
    for _ in 0..<3 { words.append(try cursor.readBE(UInt64.self).byteSwapped) }
    guard words[0] == magic, words[2] == SurrogateRecord.checksum([magic, words[1]]) else {
      throw MoveError(
        "the surrogate holds something already: clear its first 4096 bytes if that is not wanted")
    }
    return words[1]
  }

  private func writeHeader(_ words: [UInt64], to store: any DiskStore) throws(StoreError) {
    let buffer = PageBuffer.zeroed(byteCount: Self.unitByteCount)
    let bytes = words.flatMap { word in
      (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64($0 * 8)) }
    }
    // SAFETY: the array outlives the call.
    unsafe buffer.store(bytes.span.bytes, at: 0)
    // SAFETY: the buffer is this call's own.
    try unsafe store.write(
      UnsafeRawBufferPointer(buffer.part(0, Self.unitByteCount)), at: 0, durable: true)
  }

  private static func close(_ store: any DiskStore) { (store as? RemoteStore)?.close() }

  /// The log is not needed any more: the store can be another disk's surrogate.
  func clear() {
    if let store = state.withLock({ $0.store }) { try? writeHeader([], to: store) }
    close()
  }

  func close() {
    let store = state.withLock { state in
      defer { state.store = nil }
      return state.store
    }
    if let store { Self.close(store) }
  }

  private func current() throws(StoreError) -> (store: any DiskStore, generation: UInt64) {
    let (store, generation) = state.withLock { ($0.store, $0.generation) }
    guard let store else { throw StoreError(.inputOutput, "the surrogate is closed") }
    return (store, generation)
  }

  // MARK: Units

  static func offset(_ unit: UInt64) -> UInt64 { (unit + 1) * UInt64(unitByteCount) }

  /// Writes a record with its data; says over which connection.
  ///
  /// - Parameter buffer: the header's block, and the data behind it.
  func append(
    _ buffer: PageBuffer, count: Int, at unit: UInt64, durable: Bool
  ) throws(StoreError) -> UInt64 {
    let (store, generation) = try current()
    // SAFETY: the buffer is the caller's, for this call.
    let bytes = unsafe UnsafeRawBufferPointer(buffer.part(0, count))
    try unsafe store.write(bytes, at: Self.offset(unit), durable: durable)
    return generation
  }

  /// Fills `target` from a unit on, over a new connection where that is needed.
  func read(
    at unit: UInt64, into target: UnsafeMutableRawBufferPointer,
    patienceMs: UInt64 = patienceMs
  ) throws(StoreError) {
    let deadlineMs = MonotonicClock.nowMs + patienceMs
    while true {
      let store = try current().store
      do throws(StoreError) {
        return try unsafe store.read(at: Self.offset(unit), into: target)
      } catch {
        guard isBroken(store), MonotonicClock.nowMs < deadlineMs else { throw error }
        if !reopen(store) { MonotonicClock.sleep(us: Self.retryUs) }
      }
    }
  }

  /// Flushes; says over which connection.
  func flush() throws(StoreError) -> UInt64 {
    let (store, generation) = try current()
    try store.flush()
    return generation
  }

  /// Makes a new connection where the one before has broken; throws when that can't be done now.
  func reach() throws(StoreError) {
    let store = try current().store
    guard isBroken(store), !reopen(store) else { return }
    throw StoreError(.inputOutput, "the surrogate can't be reached")
  }

  private func isBroken(_ store: any DiskStore) -> Bool {
    (store as? RemoteStore)?.isBroken ?? false
  }

  /// Makes a new connection in place of one that broke; false: not yet.
  private func reopen(_ broken: any DiskStore) -> Bool {
    dialing.withLock { _ -> Bool in
      // Another caller has been here.
      guard state.withLock({ $0.store === broken }) else { return true }
      guard let store = try? place.open() else { return false }
      do {
        try Self.check(store, log)
      } catch {
        Self.close(store)
        return false
      }
      let isWanted = state.withLock { state in
        guard state.store != nil else { return false }
        state.silence = state.silence ?? Self.silence(of: broken)
        state.store = store
        state.generation += 1
        return true
      }
      if !isWanted { Self.close(store) }
      return true
    }
  }
}
