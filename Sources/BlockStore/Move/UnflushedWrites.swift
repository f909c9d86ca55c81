import HostIO
import NBD

/// What the guest changed at a destination that is the disk, and no flush there has covered yet.
///
/// A destination's host that loses its power may lose what it answered and was not told to flush, and
/// the next connection wouldn't show it. So the changes are kept and made again over each new
/// connection, in their order, before anything else; a client of NFS does the same with its unstable writes (RFC 1813,
/// COMMIT). A change that had not been lost is made twice, which leaves the same disk: nothing newer is
/// there that isn't in the list behind it.
///
/// Memory: `byteCountMax`, and what a write carries that comes when that is reached.
final class UnflushedWrites: Sendable {
  /// With more, the destination is told to flush before the next change.
  static let byteCountMax = 64 << 20
  static let countMax = 65_536

  fileprivate enum Content: Sendable {
    case data([UInt8])
    case zeros(UInt64, ZeroOptions)
  }

  fileprivate struct Change: Sendable {
    let id: UInt64
    let offset: UInt64
    let content: Content
    /// When it was answered, counted in answers and flushes; nil: it wasn't yet.
    var doneAt: UInt64?

    var range: Range<UInt64> {
      switch content {
      case .data(let bytes): offset..<(offset + UInt64(bytes.count))
      case .zeros(let count, _): offset..<(offset + count)
      }
    }
  }

  fileprivate struct State: Sendable {
    var changes: [Change] = []
    var byteCount = 0
    var next: UInt64 = 1
  }

  /// Changes that are on their way at once when they are made again, and their bytes.
  static let againMax = 32
  static let againByteCountMax = 8 << 20

  private let state = Guarded(State())
  private let flushing = Guarded(())

  /// Changes that are kept.
  var count: Int { state.read { $0.changes.count } }

  /// Makes a change over a connection; it is remembered before it is sent.
  func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool, over link: MoveLink
  ) throws(StoreError) {
    try makeRoom(over: link)
    let id = unsafe begin(offset, .data([UInt8](bytes)), bytes.count)
    do throws(StoreError) {
      try unsafe link.write(bytes, at: offset, durable: durable)
    } catch {
      forget(id)
      throw error
    }
    end(id)
  }

  func zero(
    at offset: UInt64, count: UInt64, _ options: ZeroOptions, over link: MoveLink
  ) throws(StoreError) {
    try makeRoom(over: link)
    // Zeros that could not be made fast were refused the first time; what was made is made again somehow.
    let id = begin(offset, .zeros(count, options.subtracting(.fast)), 0)
    do throws(StoreError) {
      try link.makeZero(at: offset, count: count, options)
    } catch {
      forget(id)
      throw error
    }
    end(id)
  }

  func flush(over link: MoveLink) throws(StoreError) {
    let stamp = state.update { $0.stamp() }
    try link.flush()
    state.update { state in
      state.drop { ($0.doneAt ?? .max) < stamp }
    }
  }

  /// Makes all of it again, over a connection that nobody else uses yet. Many at once: over a network each would
  /// cost a round trip otherwise, while the guest waits. Only what overlaps waits for what came before it.
  func again(over link: MoveLink) throws(StoreError) {
    var window = Window(link)
    // What is not answered yet goes, too: whoever waits for that answer will send it again.
    for change in state.read({ $0.changes }) { try window.send(change) }
    try window.finish(downTo: 0)
  }

  /// Writes that are made again and not answered yet, in their order. After an error the connection is closed.
  private struct Window {
    struct Sent {
      let range: Range<UInt64>
      let pending: MoveLink.Pending
    }
    let link: MoveLink
    var sent: [Sent] = []
    var byteCount = 0

    init(_ link: MoveLink) { self.link = link }

    mutating func send(_ change: Change) throws(StoreError) {
      let range = change.range
      if let last = sent.lastIndex(where: { $0.range.overlaps(range) }) {
        try finish(downTo: sent.count - last - 1)
      }
      switch change.content {
      case .data(let bytes) where bytes.count <= Int(link.store.traits.blockSizes.maximum):
        while !sent.isEmpty, isFull(with: bytes.count) { try finish(downTo: sent.count - 1) }
        sent.append(Sent(range: range, pending: try start(bytes, at: change.offset)))
        byteCount += bytes.count
      case .data(let bytes): try write(bytes, at: change.offset)
      case .zeros(let count, let options):
        try link.makeZero(at: change.offset, count: count, options)
      }
    }

    private func isFull(with more: Int) -> Bool {
      sent.count >= UnflushedWrites.againMax
        || byteCount + more > UnflushedWrites.againByteCountMax
    }

    /// One that takes several requests.
    private func write(_ bytes: [UInt8], at offset: UInt64) throws(StoreError) {
      // SAFETY: the array lives for the call, which only reads it.
      let result = unsafe bytes.withUnsafeBytes { bytes -> Result<Void, StoreError> in
        do throws(StoreError) {
          return .success(try unsafe link.write(bytes, at: offset, durable: false))
        } catch { return .failure(error) }
      }
      try result.get()
    }

    private func start(
      _ bytes: [UInt8], at offset: UInt64
    ) throws(StoreError) -> MoveLink.Pending {
      // SAFETY: the array lives for the call, which only reads it; a write that was started needs it no more.
      let result = unsafe bytes.withUnsafeBytes { bytes -> Result<MoveLink.Pending, StoreError> in
        do throws(StoreError) {
          return .success(try unsafe link.startWrite(bytes, at: offset))
        } catch { return .failure(error) }
      }
      return try result.get()
    }

    /// Waits for the oldest, until no more than `count` are left.
    mutating func finish(downTo count: Int) throws(StoreError) {
      while sent.count > count {
        let first = sent.removeFirst()
        byteCount -= Int(first.range.upperBound - first.range.lowerBound)
        try link.finish(first.pending)
      }
    }
  }

  private func makeRoom(over link: MoveLink) throws(StoreError) {
    guard state.read({ $0.isFull }) else { return }
    try flushing.update { (_) throws(StoreError) in
      if state.read({ $0.isFull }) { try flush(over: link) }
    }
  }

  private func begin(_ offset: UInt64, _ content: Content, _ byteCount: Int) -> UInt64 {
    state.update { state in
      let id = state.stamp()
      state.changes.append(Change(id: id, offset: offset, content: content))
      state.byteCount += byteCount
      return id
    }
  }

  private func end(_ id: UInt64) {
    state.update { state in
      let stamp = state.stamp()
      if let place = state.place(of: id) { state.changes[place].doneAt = stamp }
    }
  }

  private func forget(_ id: UInt64) { state.update { $0.drop { $0.id == id } } }
}

extension UnflushedWrites.State {
  fileprivate var isFull: Bool {
    byteCount >= UnflushedWrites.byteCountMax || changes.count >= UnflushedWrites.countMax
  }

  fileprivate mutating func stamp() -> UInt64 {
    defer { next += 1 }
    return next
  }

  /// They stand in the order of their ids.
  fileprivate func place(of id: UInt64) -> Int? {
    var (low, high) = (0, changes.count)
    while low < high {
      let middle = (low + high) / 2
      if changes[middle].id < id { low = middle + 1 } else { high = middle }
    }
    return low < changes.count && changes[low].id == id ? low : nil
  }

  fileprivate mutating func drop(_ isOver: (UnflushedWrites.Change) -> Bool) {
    changes.removeAll { isOver($0) }
    byteCount = changes.reduce(0) { sum, change in
      if case .data(let bytes) = change.content { sum + bytes.count } else { sum }
    }
  }
}
