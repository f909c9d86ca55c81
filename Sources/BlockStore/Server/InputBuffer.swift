import HostIO

/// Bytes of a connection that have arrived and are not used yet. One thread.
final class InputBuffer {
  static let byteCountMax = 256 << 10

  private let connection: any ByteConnection
  private let buffer = PageBuffer(byteCount: byteCountMax)
  private var start = 0
  private var end = 0

  init(_ connection: any ByteConnection) { self.connection = connection }

  var count: Int { end - start }

  /// Waits for more; false at the end of the stream.
  ///
  /// - Precondition: the buffer isn't full.
  func fill() throws(SystemError) -> Bool {
    if start == end {
      (start, end) = (0, 0)
    } else if buffer.byteCount - end < buffer.byteCount / 4 {
      buffer.moveToFront(from: start, count: count)
      (start, end) = (0, count)
    }
    let room = buffer.byteCount - end
    // SAFETY: the part is within the buffer, which this thread alone uses.
    let read = try unsafe connection.read(into: buffer.part(end, room))
    end += read
    return read > 0
  }

  /// The first `count` bytes; they stay there until `fill`.
  func part(_ count: Int) -> UnsafeMutableRawBufferPointer {
    precondition(count <= self.count)
    return unsafe buffer.part(start, count)
  }

  /// Looks at the first `count` bytes.
  func look<R, E: Error>(_ count: Int, _ body: (RawSpan) throws(E) -> R) throws(E) -> R {
    // SAFETY: `part` checks the bounds; the span ends with the call.
    let part = unsafe UnsafeRawBufferPointer(self.part(count))
    return try body(unsafe part.bytes)
  }

  func drop(_ count: Int) {
    precondition(count <= self.count)
    start += count
  }

  /// Takes `target.count` bytes, waiting for them; false when the stream ends before.
  func take(into target: UnsafeMutableRawBufferPointer) throws(SystemError) -> Bool {
    let held = min(count, target.count)
    // SAFETY: both parts have `held` bytes, in different buffers.
    unsafe UnsafeMutableRawBufferPointer(rebasing: target[..<held])
      .copyMemory(from: UnsafeRawBufferPointer(part(held)))
    drop(held)
    guard held < target.count else { return true }
    // SAFETY: the rest of the caller's buffer.
    return try unsafe connection.readFully(
      into: UnsafeMutableRawBufferPointer(rebasing: target[held...]))
  }
}
