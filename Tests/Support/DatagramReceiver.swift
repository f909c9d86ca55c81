import Foundation
import Glibc

/// A datagram socket that the test reads.
public final class DatagramReceiver: Sendable {
  private let raw: Int32
  public let path: String

  public init(abstract: Bool = false) throws {
    let name = "/tmp/godwit-dgram-\(UUID().uuidString.prefix(8))"
    path = abstract ? "@" + name : name
    raw = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    if abstract { address.sun_path.0 = 0 }
    let length = socklen_t(MemoryLayout<sa_family_t>.size + path.utf8.count)
    let result = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(raw, $0, length) }
    }
    guard result == 0 else { throw POSIXError(.EADDRINUSE) }
  }

  deinit {
    close(raw)
    unlink(path)
  }

  /// The next datagram; nil when none is there.
  public func next() -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    let count = recv(raw, &buffer, buffer.count, Int32(MSG_DONTWAIT))
    return count < 0 ? nil : Array(buffer[..<count])
  }

  public func text() -> String? { next().map { String(decoding: $0, as: UTF8.self) } }
}
