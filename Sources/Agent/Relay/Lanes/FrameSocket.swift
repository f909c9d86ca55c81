import Base
import Glibc
import HostIO
import Wire

/// Frames over a connected socket: one writing thread, one reading thread.
final class FrameSocket: Sendable {
  let socket: any ByteConnection
  /// Bytes written so far, headers included; what `wireBytes` counts.
  let bytesWritten = Guarded<UInt64>(0)

  init(_ socket: any ByteConnection) { self.socket = socket }

  /// Writes one frame: header, `head`, then `body`.
  func send(
    _ type: FrameType, _ head: [UInt8], body: UnsafeMutableRawBufferPointer? = nil
  ) throws(RelayFailure) {
    let bodyCount = unsafe body?.count ?? 0
    var bytes: [UInt8] = []
    bytes.reserveCapacity(FrameHeader.byteCount + head.count)
    FrameHeader(type: type, payloadLength: head.count + bodyCount).encode(into: &bytes)
    bytes += head
    let total = UInt64(bytes.count + bodyCount)
    do {
      try unsafe bytes.withUnsafeMutableBytes { raw in
        // SAFETY: both buffers outlive the call; writev only reads.
        var parts = unsafe [iovec(iov_base: raw.baseAddress, iov_len: raw.count)]
        if let body = unsafe body {
          unsafe parts.append(iovec(iov_base: body.baseAddress, iov_len: body.count))
        }
        try unsafe socket.writeAll(&parts)
      }
    } catch {
      throw .peer("\(error)")
    }
    bytesWritten.update { $0 += total }
  }

  /// Reads the next frame's header; nil at a clean end of the connection.
  func receiveHeader() throws(RelayFailure) -> FrameHeader? {
    try receive(FrameHeader.byteCount) { (cursor) throws(DecodeError) in
      try FrameHeader(decoding: &cursor)
    }
  }

  /// Memory set aside for a payload before its bytes have come, in bytes.
  static let payloadStep = 256 << 10

  /// Reads a payload of `count` bytes into memory of its own; for everything but page bytes.
  ///
  /// Memory follows what arrives: a header that promises 8 MiB costs its sender 8 MiB, too.
  func receivePayload(_ count: Int) throws(RelayFailure) -> [UInt8] {
    var payload: [UInt8] = []
    payload.reserveCapacity(min(count, Self.payloadStep))
    do {
      while payload.count < count {
        let start = payload.count
        let step = min(count - start, Self.payloadStep)
        payload += [UInt8](repeating: 0, count: step)
        let complete = try unsafe payload.withUnsafeMutableBytes { raw in
          // SAFETY: the slice is the part of the array that was appended just now.
          try unsafe socket.readFully(
            into: UnsafeMutableRawBufferPointer(rebasing: raw[start...]))
        }
        guard complete else { throw RelayFailure.peer("ended inside a frame") }
      }
    } catch let error as SystemError {
      throw .peer("\(error)")
    } catch let error as RelayFailure {
      throw error
    } catch {
      throw .peer("\(error)")
    }
    return payload
  }

  /// Reads `count` bytes and decodes them; nil at a clean end of the connection.
  func receive<T>(
    _ count: Int, _ decode: (inout ByteCursor) throws(DecodeError) -> T
  ) throws(RelayFailure) -> T? {
    var bytes = [UInt8](repeating: 0, count: count)
    let complete: Bool
    do {
      complete = try unsafe bytes.withUnsafeMutableBytes { raw in
        try unsafe socket.readFully(into: raw)
      }
    } catch {
      throw .peer("\(error)")
    }
    guard complete else { return nil }
    var cursor = unsafe ByteCursor(bytes.span.bytes)
    do { return try decode(&cursor) } catch { throw .protocolViolation("\(error)") }
  }
}
