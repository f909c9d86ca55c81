import Base
import Compaction
import Testing

@Suite struct SealedFormatTests {
  private static func begins(_ bytes: [UInt8]) -> Bool { SealedHead.begins(bytes.span.bytes) }

  @Test func headComesBack() throws {
    let head = SealedHead(salt: Array(1...16))
    var bytes: [UInt8] = []
    head.encode(into: &bytes)
    #expect(bytes.count == SealedHead.byteCount)
    #expect(Self.begins(bytes))
    #expect(try SealedHead(decoding: bytes.span.bytes) == head)
    for place in bytes.indices {
      var changed = bytes
      changed[place] ^= 0x11
      #expect(throws: DecodeError.self, "byte \(place)") {
        try SealedHead(decoding: changed.span.bytes)
      }
    }
    for count in bytes.indices {
      let cut = Array(bytes[..<count])
      #expect(throws: DecodeError.self) { try SealedHead(decoding: cut.span.bytes) }
    }
    #expect(!Self.begins(Array("GWVAULT1".utf8)) && !Self.begins(Array("GWV".utf8)))
  }

  @Test(arguments: [1, 4095, 4096, 4097, 8192, 1_000_003] as [UInt64])
  func chunksAreAllOfTheFile(bytes: UInt64) throws {
    let size = SealedLayout.fileByteCount(bytes)
    let layout = try #require(SealedLayout(fileByteCount: size))
    #expect(layout.byteCount == bytes && layout.chunkCount == (bytes + 4095) / 4096)
    var end = UInt64(SealedHead.byteCount)
    for chunk in layout.chunks(of: 0..<bytes) {
      #expect(layout.stored(chunk).lowerBound == end)
      end = layout.stored(chunk).upperBound
    }
    #expect(end == size)
    #expect(layout.chunks(of: bytes - 1..<bytes) == layout.chunkCount - 1...layout.chunkCount - 1)
    if bytes > 4096 { #expect(layout.chunks(of: 4095..<4097) == 0...1) }
  }

  /// No chunk is empty, and none is shorter than its tag.
  @Test func sizesThatNoFileHas() {
    for size in [0, 39, 40, 41, 56, 40 + 4112 + 1, 40 + 4112 + 16] as [UInt64] {
      #expect(SealedLayout(fileByteCount: size) == nil, "\(size)")
    }
    #expect(SealedLayout(fileByteCount: .max) != nil)
  }
}
