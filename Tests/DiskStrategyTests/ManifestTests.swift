import Base
import DiskStrategy
import Testing

@Suite struct ManifestTests {
  private func make(_ byteCount: UInt64) throws -> DiskManifest {
    let parts = Int((byteCount + 65_535) / 65_536)
    let hashes = (0..<(parts * 32)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    return try #require(DiskManifest(byteCount: byteCount, generation: 99, hashes: hashes))
  }

  @Test(arguments: [1, 65_536, 65_537, 5_000_000] as [UInt64])
  func whatIsWrittenIsRead(byteCount: UInt64) throws {
    let manifest = try make(byteCount)
    let read = try DiskManifest(decoding: manifest.encoded)
    #expect(read == manifest && read.generation == 99 && read.byteCount == byteCount)
    #expect(read.range(of: read.partCount - 1).upperBound == byteCount)
    #expect(read.hash(of: 0).elementsEqual((0..<32).map { UInt8(truncatingIfNeeded: $0 &* 31) }))
  }

  @Test func whatIsNotWholeIsRefused() throws {
    let bytes = try make(200_000).encoded
    for index in bytes.indices {
      #expect(throws: DecodeError.self) { try DiskManifest(decoding: Array(bytes[..<index])) }
      var changed = bytes
      changed[index] ^= 4
      #expect(throws: DecodeError.self, "\(index)") { try DiskManifest(decoding: changed) }
    }
    #expect(throws: DecodeError.self) { try DiskManifest(decoding: bytes + [0]) }
    #expect(DiskManifest(byteCount: 200_000, generation: 1, hashes: [1]) == nil)
    #expect(DiskManifest(byteCount: 0, generation: 1, hashes: []) == nil)
    #expect(DiskManifest(byteCount: .max, generation: 1, hashes: []) == nil)
  }
}
