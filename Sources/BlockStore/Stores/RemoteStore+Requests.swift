import Glibc
import HostIO
import NBD
import Synchronization

/// What callers ask the server, and how they wait for its answers.
extension RemoteStore {
  /// A request that was sent, and whose answer has not been waited for.
  public struct Pending: Sendable {
    fileprivate let waiter: Waiter
  }

  /// Waits for the answer; called once.
  public func finish(_ pending: Pending) throws(StoreError) { _ = try answer(pending) }

  /// Extents by the context's number, where those were asked for.
  private func answer(_ pending: Pending) throws(StoreError) -> [UInt32: [NBDExtent]] {
    while true {
      if let result = pending.waiter.result.wait(until: { $0 }) { return try result.get() }
    }
  }

  /// Sends a write; its bytes aren't used any more when this returns.
  public func startWrite(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64
  ) throws(StoreError) -> Pending {
    unsafe try send(.write, at: offset, count: UInt64(bytes.count), data: bytes)
  }

  /// Asks for a range; the target has to stay until `finish` has returned.
  func startRead(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) -> Pending {
    try unsafe send(.read, at: offset, count: UInt64(target.count), into: target)
  }

  /// Whether the connection is over: every call fails.
  public var isBroken: Bool { state.withLock { $0.failure != nil } }

  /// Why it is over, when that was the server's silence.
  public var silence: ServerSilence? { watch?.silence }

  @discardableResult
  func ask(
    _ command: NBDCommand, _ flags: CommandFlags = [], at offset: UInt64 = 0, count: UInt64 = 0,
    into target: UnsafeMutableRawBufferPointer? = nil
  ) throws(StoreError) -> [UInt32: [NBDExtent]] {
    try answer(unsafe send(command, flags, at: offset, count: count, into: target))
  }

  private func send(
    _ command: NBDCommand, _ flags: CommandFlags = [], at offset: UInt64 = 0, count: UInt64 = 0,
    into target: UnsafeMutableRawBufferPointer? = nil, data: UnsafeRawBufferPointer? = nil
  ) throws(StoreError) -> Pending {
    var request = NBDRequest(command, flags: flags, offset: offset, length: count)
    let kind = SilenceWatch.Kind(command, flags)
    let waiter = unsafe Waiter(target: target, offset: offset, kind)
    let failure = state.withLock { state -> StoreError? in
      if let failure = state.failure { return failure }
      request.cookie = state.nextCookie
      state.nextCookie += 1
      state.waiters[request.cookie] = waiter
      state.replies.expect(request)
      return nil
    }
    if let failure { throw failure }
    watch?.noteSent(kind)
    var header: [UInt8] = []
    request.encode(session.mode, into: &header)
    sending.withLock { _ in
      // SAFETY: header and data live for the call, which only reads them.
      unsafe header.withUnsafeBytes { raw in
        var parts = unsafe [
          iovec(iov_base: UnsafeMutableRawPointer(mutating: raw.baseAddress), iov_len: raw.count),
          iovec(
            iov_base: UnsafeMutableRawPointer(mutating: data?.baseAddress),
            iov_len: data?.count ?? 0),
        ]
        // The reading thread sees the broken connection, too, and settles this request.
        do { try unsafe connection.writeAll(&parts) } catch { connection.shutdown() }
      }
    }
    return Pending(waiter: waiter)
  }

  public func read(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    var done = 0
    while done < target.count {
      let part = min(target.count - done, requestMax)
      // SAFETY: the slice is bounds-checked, and the caller keeps the buffer for the call.
      let room = unsafe UnsafeMutableRawBufferPointer(rebasing: target[done..<(done + part)])
      _ = unsafe try ask(.read, at: offset + UInt64(done), count: UInt64(part), into: room)
      done += part
    }
  }

  /// Bytes of data that one request may carry.
  private var requestMax: Int { max(Int(traits.blockSizes.maximum), 4096) }

  public func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool
  ) throws(StoreError) {
    guard bytes.count <= requestMax else {
      var done = 0
      while done < bytes.count {
        let part = min(bytes.count - done, requestMax)
        // SAFETY: the slice is bounds-checked, and the caller keeps the buffer for the call.
        let data = unsafe UnsafeRawBufferPointer(rebasing: bytes[done..<(done + part)])
        try unsafe write(data, at: offset + UInt64(done), durable: false)
        done += part
      }
      return durable ? try flush() : ()
    }
    let hasFUA = session.flags.contains(.sendFUA)
    try finish(
      unsafe send(
        .write, durable && hasFUA ? .fua : [], at: offset, count: UInt64(bytes.count), data: bytes))
    if durable, !hasFUA { try flush() }
  }

  public func flush() throws(StoreError) {
    if session.flags.contains(.sendFlush) { unsafe try ask(.flush) }
  }

  /// Longest range of a request without data, in bytes: what 32 bits hold, in whole blocks.
  static let rangeMax: UInt64 = 1 << 31

  private func eachPart(
    _ offset: UInt64, _ count: UInt64, _ body: (UInt64, UInt64) throws(StoreError) -> Void
  ) throws(StoreError) {
    var done: UInt64 = 0
    while done < count {
      let part = min(count - done, Self.rangeMax)
      try body(offset + done, part)
      done += part
    }
  }

  public func zero(
    at offset: UInt64, count: UInt64, _ options: ZeroOptions
  ) throws(StoreError) {
    guard session.flags.contains(.sendWriteZeroes) else {
      throw StoreError(.notSupported, "the server underneath can't write zeros")
    }
    var flags: CommandFlags = options.contains(.keepsSpace) ? .noHole : []
    if options.contains(.fast) {
      guard session.flags.contains(.sendFastZero) else {
        throw StoreError(.notSupported, "zeros would have to be written")
      }
      flags.insert(.fastZero)
    }
    try eachPart(offset, count) { place, part throws(StoreError) in
      unsafe try ask(.writeZeroes, flags, at: place, count: part)
    }
    if options.contains(.durable) { try flush() }
  }

  public func trim(at offset: UInt64, count: UInt64) throws(StoreError) {
    try eachPart(offset, count) { place, part throws(StoreError) in
      unsafe try ask(.trim, at: place, count: part)
    }
  }
}
