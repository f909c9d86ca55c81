import Base
import Compaction
import Crypto
import FoundationEssentials
import HostIO

/// Seals a file in chunks (AES-256-GCM), so that any part of it can be read alone. Chunks can't be changed, moved within
/// the file or into another, and the file can't be cut, without being noticed.
struct ChunkCipher: Sendable {
  private let key: SymmetricKey

  /// - Parameter key: of this one file, 256 bits.
  init(_ key: SymmetricKey) { self.key = key }

  /// - Parameters:
  ///   - plain: `1...SealedHead.chunkBytes` bytes.
  ///   - index: of the chunk in the file; no chunk is sealed twice.
  /// - Returns: as many bytes, and a tag of `SealedHead.tagByteCount`.
  func seal(_ plain: ArraySlice<UInt8>, _ index: UInt64, isLast: Bool) throws -> [UInt8] {
    let box = try AES.GCM.seal(plain, using: key, nonce: try Self.nonce(index, isLast))
    var out = [UInt8](box.ciphertext)
    out.append(contentsOf: box.tag)
    return out
  }

  /// Throws where the chunk is not what was sealed.
  func open(_ sealed: ArraySlice<UInt8>, _ index: UInt64, isLast: Bool) throws -> Data {
    let tagStart = sealed.endIndex - SealedHead.tagByteCount
    return try AES.GCM.open(
      AES.GCM.SealedBox(
        nonce: try Self.nonce(index, isLast), ciphertext: sealed[..<tagStart],
        tag: sealed[tagStart...]), using: key)
  }

  private static func nonce(_ index: UInt64, _ isLast: Bool) throws -> AES.GCM.Nonce {
    var bytes: [UInt8] = []
    bytes.appendBE(UInt32(isLast ? 1 : 0))
    bytes.appendBE(index)
    return try AES.GCM.Nonce(data: bytes)
  }
}

/// Seals bytes that come one after the other.
struct ChunkSealer {
  private let cipher: ChunkCipher
  /// Not sealed yet; at least a byte once there was one, for the last chunk is marked.
  private var pending: [UInt8] = []
  private var next: UInt64 = 0

  init(_ cipher: ChunkCipher) { self.cipher = cipher }

  /// Chunks that are full now.
  mutating func seal(_ bytes: RawSpan) throws -> [UInt8] {
    pending.append(contentsOf: bytes)
    var out: [UInt8] = []
    var start = 0
    while pending.count - start > SealedHead.chunkBytes {
      out += try cipher.seal(
        pending[start..<start + SealedHead.chunkBytes], next, isLast: false)
      start += SealedHead.chunkBytes
      next += 1
    }
    pending.removeFirst(start)
    return out
  }

  /// The last chunk.
  mutating func finish() throws -> [UInt8] {
    defer { pending = [] }
    return try cipher.seal(pending[...], next, isLast: true)
  }
}
