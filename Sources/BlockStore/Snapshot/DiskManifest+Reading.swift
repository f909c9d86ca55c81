import Crypto
public import DiskStrategy
import HostIO

/// Manifests of what a store holds.
extension DiskManifest {
  /// Reads all of a store that nobody writes to meanwhile. No notes are kept of what is written later: the
  /// generation is 0, which no snapshot has.
  public static func reading(_ store: any DiskStore) throws -> DiskManifest {
    guard (1...diskByteCountMax).contains(store.byteCount) else {
      throw MoveError("a disk of \(store.byteCount) bytes has no manifest")
    }
    let hashes = try unsafe hashes(byteCount: store.byteCount) { place, target throws(StoreError) in
      try unsafe store.read(at: place, into: target)
      store.forget(at: place, count: UInt64(target.count))
    }
    guard
      let manifest = DiskManifest(byteCount: store.byteCount, generation: 0, hashes: hashes)
    else { throw MoveError("a disk of \(store.byteCount) bytes has no manifest") }
    return manifest
  }

  /// SHA-256 of each part, one behind the other.
  ///
  /// - Parameter read: fills its target from a place on.
  static func hashes(
    byteCount: UInt64,
    _ read: (UInt64, UnsafeMutableRawBufferPointer) throws(StoreError) -> Void
  ) throws(StoreError) -> [UInt8] {
    let partCount = Int(partByteCount)
    let buffer = PageBuffer(byteCount: partCount * 16)
    var hashes: [UInt8] = []
    var place: UInt64 = 0
    while place < byteCount {
      let count = Int(min(byteCount - place, UInt64(buffer.byteCount)))
      // SAFETY: parts are bounds-checked; the buffer is this call's own.
      try unsafe read(place, buffer.part(0, count))
      for start in stride(from: 0, to: count, by: partCount) {
        let part = unsafe buffer.part(start, min(partCount, count - start))
        hashes += unsafe hash(UnsafeRawBufferPointer(part))
      }
      place += UInt64(count)
    }
    return hashes
  }

  static func hash(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    var hash = SHA256()
    unsafe hash.update(bufferPointer: bytes)
    return Array(hash.finalize())
  }

  /// Whether a part is this.
  func matches(_ part: Int, _ bytes: UnsafeRawBufferPointer) -> Bool {
    unsafe hash(of: part) == Self.hash(bytes)[...]
  }
}
