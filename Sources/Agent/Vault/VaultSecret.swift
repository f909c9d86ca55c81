import Crypto
import FoundationEssentials
import Glibc
import HostIO

/// The host's key for its vault: 256 bits out of a file that nobody but its owner can read.
///
/// Every snapshot is sealed with a key of its own, made of this one and a salt (HKDF-SHA256), so that no nonce is used
/// twice with one key.
struct VaultSecret: Sendable {
  static let byteCount = 32
  static let saltByteCount = 16
  /// Binds the derived keys to what they are for.
  private static let purpose = [UInt8]("godwit vault 1".utf8)

  private let key: SymmetricKey

  /// - Parameter bytes: `byteCount` bytes.
  init(bytes: [UInt8]) {
    precondition(bytes.count == Self.byteCount)
    key = SymmetricKey(data: bytes)
  }

  /// Reads 32 bytes, or 64 hexadecimal digits.
  init(path: String) throws(VaultError) {
    // SAFETY: the path is a NUL-terminated copy for the call.
    let raw = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)
    guard raw >= 0 else { throw .noKey(path: path, "\(SystemError("open it"))") }
    let descriptor = Descriptor(owning: raw)
    var status = stat()
    // SAFETY: `status` lives for the call.
    guard unsafe fstat(raw, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw .noKey(path: path, "it is no file")
    }
    guard status.st_mode & 0o077 == 0 else {
      throw .noKey(path: path, "others than its owner may read it; chmod 600 it")
    }
    // One byte more than a key may have.
    var bytes = [UInt8](repeating: 0, count: 2 * Self.byteCount + 2)
    defer {
      // SAFETY: the array's own memory; a plain loop might be left out.
      unsafe bytes.withUnsafeMutableBytes {
        if let start = $0.baseAddress { unsafe explicit_bzero(start, $0.count) }
      }
    }
    // SAFETY: the pointer does not leave the closure, and the count is the array's.
    let count = unsafe bytes.withUnsafeMutableBytes {
      unsafe read(descriptor.raw, $0.baseAddress, $0.count)
    }
    guard count >= 0 else { throw .noKey(path: path, "\(SystemError("read it"))") }
    if count == Self.byteCount {
      key = SymmetricKey(data: bytes[..<count])
      return
    }
    let isEnded = count == 2 * Self.byteCount + 1 && bytes[count - 1] == UInt8(ascii: "\n")
    guard count == 2 * Self.byteCount || isEnded,
      var found = Self.decoded(bytes[..<(2 * Self.byteCount)])
    else { throw .noKey(path: path, "a key is 32 bytes, or 64 hexadecimal digits") }
    key = SymmetricKey(data: found)
    // SAFETY: as above.
    unsafe found.withUnsafeMutableBytes {
      if let start = $0.baseAddress { unsafe explicit_bzero(start, $0.count) }
    }
  }

  private static func decoded(_ digits: ArraySlice<UInt8>) -> [UInt8]? {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(byteCount)
    var high: UInt8?
    for digit in digits {
      let value: UInt8
      switch digit {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): value = digit - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): value = digit - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): value = digit - UInt8(ascii: "A") + 10
      default: return nil
      }
      if let first = high {
        bytes.append(first << 4 | value)
        high = nil
      } else {
        high = value
      }
    }
    return bytes
  }

  /// The cipher of the snapshot with this salt.
  func cipher(salt: [UInt8]) -> ChunkCipher {
    ChunkCipher(
      HKDF<SHA256>.deriveKey(
        inputKeyMaterial: key, salt: salt, info: Self.purpose, outputByteCount: Self.byteCount))
  }
}
