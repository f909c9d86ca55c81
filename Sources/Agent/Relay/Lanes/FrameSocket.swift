import Base
import Glibc
import HostIO
import Wire

/// Frames over a connected socket: one writing thread, one reading thread.
final class FrameSocket: Sendable {
  let socket: any ByteConnection
  /// Bytes written so far, headers included; what `wireBytes` counts. Shared by the connections that
  /// a lane has one after the other.
  private let bytesWritten: Guarded<UInt64>

  init(_ socket: any ByteConnection, counting bytesWritten: Guarded<UInt64> = Guarded(0)) {
    (self.socket, self.bytesWritten) = (socket, bytesWritten)
  }

  /// Writes one frame: header, `head`, then `body`.
  func send(
    _ type: FrameType, _ head: [UInt8], body: UnsafeMutableRawBufferPointer? = nil,
    number: UInt64 = 0
  ) throws(RelayFailure) {
    let bodyCount = unsafe body?.count ?? 0
    let checksum: UInt64
    if let body = unsafe body {
      // SAFETY: the caller's buffer outlives the call.
      checksum = unsafe FrameChecksum.of(
        head.span.bytes, RawSpan(_unsafeBytes: UnsafeRawBufferPointer(body)))
    } else {
      checksum = unsafe FrameChecksum.of(head.span.bytes)
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(FrameHeader.byteCount + head.count)
    FrameHeader(
      type: type, payloadLength: head.count + bodyCount, number: number, payloadChecksum: checksum
    ).encode(into: &bytes)
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
    guard let bytes = try receive(FrameHeader.byteCount, orEnd: true) else { return nil }
    do throws(DecodeError) {
      var cursor = unsafe ByteCursor(bytes.span.bytes)
      return try FrameHeader(decoding: &cursor)
    } catch {
      switch error.code {
      case .badMagic, .badChecksum: throw .corrupt("\(error)")
      default: throw .protocolViolation("\(error)")
      }
    }
  }

  /// Reads the payload of a frame that is no batch, and checks it.
  func receivePayload(of header: FrameHeader) throws(RelayFailure) -> [UInt8] {
    let payload = try receivePart(header.payloadLength)
    try Self.check(header, unsafe FrameChecksum.of(payload.span.bytes))
    return payload
  }

  static func check(_ header: FrameHeader, _ checksum: UInt64) throws(RelayFailure) {
    guard checksum == header.payloadChecksum else {
      throw .corrupt("checksum of a \(header.type) frame of \(header.payloadLength) bytes")
    }
  }

  /// Memory set aside for a payload before its bytes have come, in bytes.
  static let payloadStep = 256 << 10

  /// Reads `count` bytes into memory of their own; for everything but page bytes.
  ///
  /// Memory follows what arrives: a header that promises 8 MiB costs its sender 8 MiB, too.
  func receivePart(_ count: Int) throws(RelayFailure) -> [UInt8] {
    var payload: [UInt8] = []
    payload.reserveCapacity(min(count, Self.payloadStep))
    while payload.count < count {
      payload += try receive(min(count - payload.count, Self.payloadStep), orEnd: false) ?? []
    }
    return payload
  }

  /// Reads exactly `count` bytes; nil when the connection ended before the first, if it may.
  private func receive(_ count: Int, orEnd: Bool) throws(RelayFailure) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    let isComplete: Bool
    do {
      isComplete = try unsafe bytes.withUnsafeMutableBytes { raw in
        // SAFETY: the pointer does not leave the closure.
        try unsafe socket.readFully(into: raw)
      }
    } catch {
      throw .peer("\(error)")
    }
    guard isComplete || orEnd else { throw .peer("ended inside a frame") }
    return isComplete ? bytes : nil
  }
}
