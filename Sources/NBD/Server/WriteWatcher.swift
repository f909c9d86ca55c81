import Base

/// What a client writes to an export, as somebody sees it who passes the client's bytes on to the server. Sans-IO.
///
/// It judges nothing: what the server refuses is refused there, and whoever looks has to bear that it was not written.
/// Where the bytes make no sense, as behind the beginning of TLS, it sees nothing more.
public struct WriteWatcher: Sendable {
  /// Which export the client asks for, or what it does to it.
  public enum Event: Sendable, Hashable {
    /// The client asks for this export: what follows is for it, unless the server says no and the client asks again.
    case export(String)
    /// Data for the export, from `offset` on, are at this place of the bytes that were given.
    case data(offset: UInt64, place: Range<Int>)
    /// The range, in bytes, becomes zero, or nobody knows what.
    case cleared(offset: UInt64, length: UInt64)
  }

  private enum State: Sendable {
    case flags
    case head
    case skipping(UInt64)
    case data(offset: UInt64, left: UInt64)
    case lost
  }

  private static let flagsByteCount = 4
  /// Of an option, and no more than of a request.
  private static let headByteCount = 16

  private var state = State.flags
  /// What has come of the flags or of a head, which may be cut anywhere.
  private var held: [UInt8] = []
  /// Bytes that it takes to go on.
  private var wanted = flagsByteCount

  public init() {}

  /// The next event in `bytes`, what the client sent behind all that was given before. `start` is where to look from,
  /// and moves on; nil: all of them have been looked at.
  public mutating func next(in bytes: RawSpan, from start: inout Int) -> Event? {
    while start < bytes.byteCount {
      let rest = UInt64(bytes.byteCount - start)
      switch state {
      case .lost: start = bytes.byteCount
      case .skipping(let left):
        start += Int(min(left, rest))
        if left > rest { state = .skipping(left - rest) } else { expectHead() }
      case .data(let offset, let left):
        let place = start..<start + Int(min(left, rest))
        start = place.upperBound
        // A head is only believed when its range ends below 2^64.
        if left > rest {
          state = .data(offset: offset + rest, left: left - rest)
        } else {
          expectHead()
        }
        return .data(offset: offset, place: place)
      case .flags, .head:
        let count = min(wanted - held.count, bytes.byteCount - start)
        held.append(contentsOf: bytes.extracting(start..<start + count))
        start += count
        if held.count == wanted, let event = takeHeld() { return event }
      }
    }
    return nil
  }

  private mutating func expectHead() {
    (state, wanted) = (.head, Self.headByteCount)
    held.removeAll(keepingCapacity: true)
  }

  /// Makes something of what is held, or asks for more.
  private mutating func takeHeld() -> Event? {
    if case .flags = state {
      expectHead()
      return nil
    }
    let bytes = held
    var cursor = unsafe ByteCursor(bytes.span.bytes)
    do {
      let magic: UInt32 = try cursor.readBE()
      switch magic {
      case NBDMagic.request: return try request(&cursor, .simple)
      case NBDMagic.extendedRequest: return try request(&cursor, .extended)
      case UInt32(truncatingIfNeeded: NBDMagic.option >> 32): return try option(&cursor)
      default: state = .lost
      }
    } catch { state = .lost }
    return nil
  }

  /// Behind the upper half of the magic.
  private mutating func option(_ cursor: inout ByteCursor) throws(DecodeError) -> Event? {
    let magic: UInt32 = try cursor.readBE()
    let code: UInt32 = try cursor.readBE()
    let length: UInt32 = try cursor.readBE()
    guard magic == UInt32(truncatingIfNeeded: NBDMagic.option) else {
      state = .lost
      return nil
    }
    let names = code == NBDOption.go.rawValue || code == NBDOption.exportName.rawValue
    guard names, length <= UInt32(NBDLimits.optionBytesMax) else {
      if length > 0 { state = .skipping(UInt64(length)) } else { expectHead() }
      return nil
    }
    guard cursor.remaining == Int(length) else {
      wanted = Self.headByteCount + Int(length)
      return nil
    }
    expectHead()
    // One that is wrong the server refuses, and the client goes on.
    guard let name = try? Self.name(&cursor, isAlone: code == NBDOption.exportName.rawValue) else {
      return nil
    }
    return .export(name)
  }

  private static func name(
    _ cursor: inout ByteCursor, isAlone: Bool
  ) throws(DecodeError) -> String {
    let count = isAlone ? cursor.remaining : Int(try cursor.readBE(UInt32.self))
    return try cursor.readString(count)
  }

  /// Behind the magic.
  private mutating func request(
    _ cursor: inout ByteCursor, _ mode: ReplyMode
  ) throws(DecodeError) -> Event? {
    guard held.count == mode.requestByteCount else {
      wanted = mode.requestByteCount
      return nil
    }
    let flags = CommandFlags(rawValue: try cursor.readBE())
    let command = NBDCommand(rawValue: try cursor.readBE())
    _ = try cursor.readBE(UInt64.self)  // the cookie
    let offset: UInt64 = try cursor.readBE()
    let length = mode == .extended ? try cursor.readBE() : UInt64(try cursor.readBE(UInt32.self))
    expectHead()
    let hasPayload = command == .write || mode == .extended && flags.contains(.payloadLength)
    guard !hasPayload || length <= NBDLimits.skippedBytesMax else {
      state = .lost
      return nil
    }
    guard length > 0 else { return nil }
    if hasPayload { state = .skipping(length) }
    // What ends beyond all disks the server refuses.
    guard !offset.addingReportingOverflow(length).overflow else { return nil }
    switch command {
    case .write: state = .data(offset: offset, left: length)
    case .trim, .writeZeroes: return .cleared(offset: offset, length: length)
    default: break
    }
    return nil
  }
}
