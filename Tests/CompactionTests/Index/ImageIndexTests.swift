import Base
import Compaction
import Testing

/// An index as it is written and read.
@Suite struct ImageIndexTests {
  static let imageBytes: UInt64 = 100 << 20

  static func digest(_ seed: UInt64) throws -> ImageDigest {
    var random = SplitMix64(seed: seed)
    var bytes: [UInt8] = []
    for _ in 0..<4 { bytes.appendBE(random.next()) }
    return try ImageDigest(bytes.span.bytes)
  }

  static func regions(_ imageBytes: UInt64 = imageBytes, seed: UInt64 = 1) throws -> [RegionSummary]
  {
    try (0..<ImageLimits.regions(of: imageBytes)).map {
      RegionSummary(digest: try digest(seed &+ UInt64($0)), heldBlocks: 1000)
    }
  }

  static func blocks(_ count: Int, seed: UInt64 = 1) -> [IndexedBlock] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map {
      IndexedBlock(
        tag: UInt32(truncatingIfNeeded: random.next()), block: UInt32($0), identity: random.next())
    }
  }

  static func writer(_ map: BlockMap? = nil) -> IndexWriter {
    IndexWriter(
      format: .raw, imageBytes: imageBytes,
      signature: ImageSignature(
        byteCount: imageBytes, modifiedNs: 5, changedNs: 6, inode: 7, device: 8),
      readFrom: 9, path: "/srv/disk.raw", map: map ?? .raw(blocks: imageBytes >> 12))
  }

  static func file(_ blocks: [IndexedBlock]) throws -> [UInt8] {
    try writer().bytes(regions: try regions(), root: try digest(99), blocks: blocks)
  }

  @Test(arguments: [0, 1, 7, 9, 6000]) func whatIsWrittenIsFound(count: Int) throws {
    let blocks = Self.blocks(count)
    let bytes = try Self.file(blocks)
    let index = try ImageIndex(decoding: bytes.span.bytes)
    #expect(index.path == "/srv/disk.raw" && index.format == .raw && !index.wasChanged)
    #expect(index.imageBytes == Self.imageBytes && index.readFrom == 9)
    #expect(index.signature == Self.writer().signature)
    #expect(try index.regions == Self.regions() && index.root == Self.digest(99))
    #expect(index.tableCount == count && index.heldBlocks == 7000)
    #expect(index.map == .raw(blocks: Self.imageBytes >> 12))
    for block in blocks {
      let found = index.candidates(block.tag, in: bytes.span.bytes)
        .map { index.block($0, in: bytes.span.bytes) }
      #expect(found.contains(block))
    }
    var misses = 0
    for block in Self.blocks(1000, seed: 77)
    where index.candidates(block.tag, in: bytes.span.bytes).isEmpty { misses += 1 }
    #expect(misses > 990)
  }

  /// One content is there once; contents with one tag are looked at up to a limit, however many there are.
  @Test func sameContentsAndSameTags() throws {
    let same = (0..<500).map { IndexedBlock(tag: 5, block: UInt32($0), identity: 1) }
    let aimed = (0..<500).map { IndexedBlock(tag: 6, block: UInt32($0), identity: UInt64($0)) }
    let bytes = try Self.file(same + aimed)
    let index = try ImageIndex(decoding: bytes.span.bytes)
    #expect(index.tableCount == 501)
    let one = index.candidates(5, in: bytes.span.bytes)
    #expect(one.count == 1 && index.block(one.lowerBound, in: bytes.span.bytes).block == 0)
    #expect(index.candidates(6, in: bytes.span.bytes).count == 8)
    #expect(index.candidates(7, in: bytes.span.bytes).isEmpty)
  }

  @Test func everyChangedByteIsSeen() throws {
    let bytes = try Self.file(Self.blocks(3))
    for place in bytes.indices {
      var changed = bytes
      changed[place] ^= 0x10
      #expect(throws: DecodeError.self, "byte \(place)") {
        _ = try ImageIndex(decoding: changed.span.bytes)
      }
    }
    for count in bytes.indices {
      #expect(throws: DecodeError.self, "\(count) bytes") {
        _ = try ImageIndex(decoding: Array(bytes[..<count]).span.bytes)
      }
    }
  }

  /// With a checksum that fits, whatever else is wrong.
  @Test func hostileFieldsAreRefused() throws {
    let bytes = try Self.file(Self.blocks(3))
    // Format, bucket bits, reserved, path bytes, image bytes, regions, extents, blocks.
    for place in [8, 9, 10, 11, 12, 15, 16, 17, 72, 75, 76, 80, 84, 88] {
      for value in [0x7F, 0xFF] as [UInt8] {
        var changed = Array(bytes.dropLast(8))
        changed[place] = value
        changed.appendBE(IndexChecksum.of(changed.span.bytes))
        #expect(throws: DecodeError.self, "byte \(place)") {
          _ = try ImageIndex(decoding: changed.span.bytes)
        }
      }
    }
  }

  @Test func imagesBeyondTheLimitsAreRefused() throws {
    var writer = Self.writer()
    writer.imageBytes = ImageLimits.imageBytesMax + 4096
    let (large, regions) = (writer, try Self.regions())
    #expect(throws: DecodeError.self) {
      _ = try large.bytes(regions: regions, root: try Self.digest(1), blocks: [])
    }
  }

  @Test func recordsReadBackAndEndWhereTheyAreTorn() throws {
    let record = RegionRecord(
      region: 2, digest: try Self.digest(4),
      blocks: (0..<40).map { IndexedBlock(tag: $0, block: 8192 + $0 * 3, identity: 9) })
    var bytes: [UInt8] = []
    record.encode(into: &bytes)
    #expect(bytes.count == record.byteCount)
    #expect(
      try RegionRecord(decoding: (bytes + [1, 2]).span.bytes, imageBytes: Self.imageBytes) == record
    )
    for count in bytes.indices {
      #expect(throws: DecodeError.self) {
        _ = try RegionRecord(
          decoding: Array(bytes[..<count]).span.bytes, imageBytes: Self.imageBytes)
      }
    }
    // Of another image, a smaller one.
    #expect(throws: DecodeError.self) {
      _ = try RegionRecord(decoding: bytes.span.bytes, imageBytes: 32 << 20)
    }
  }

  /// File systems' clocks are coarse.
  @Test func timesSettle() {
    var signature = Self.writer().signature
    (signature.modifiedNs, signature.changedNs) = (7_000_000_000, 8_000_000_000)
    #expect(!signature.isSettled(before: 9) && !signature.isSettled(before: 10))
    #expect(signature.isSettled(before: 11))
    #expect(!signature.isSettled(before: 1) && !signature.isSettled(before: .max))
  }
}

@Suite struct BlockMapTests {
  @Test func blocksAreFoundWhereTheyAre() throws {
    var map = BlockMap()
    try map.append(.init(first: 4, count: 2, offset: 0x10000))
    try map.append(.init(first: 6, count: 3, offset: 0x12000))  // goes on
    try map.append(.init(first: 20, count: 1, offset: 0x1000))
    #expect(map.extents.count == 2 && map.blockCount == 6)
    #expect(map.offset(of: 3) == nil && map.offset(of: 9) == nil && map.offset(of: 21) == nil)
    #expect(map.offset(of: 8) == 0x14000 && map.offset(of: 20) == 0x1000)
    #expect(
      map.pieces(of: 5..<21) == [
        .init(first: 5, count: 4, offset: 0x11000), .init(first: 20, count: 1, offset: 0x1000),
      ])
    #expect(map.pieces(of: 9..<20).isEmpty)
  }

  @Test func wrongOrderIsRefused() throws {
    var map = BlockMap()
    try map.append(.init(first: 4, count: 2, offset: 0))
    for extent: BlockMap.Extent in [
      .init(first: 5, count: 1, offset: 0), .init(first: 9, count: 0, offset: 0),
      .init(first: .max, count: 2, offset: 0), .init(first: 9, count: 1, offset: .max),
    ] {
      let before = map
      #expect(throws: DecodeError.self) {
        var map = before
        try map.append(extent)
      }
    }
  }

  @Test func theLargestRawImageHasAMap() {
    let blocks = ImageLimits.blocks(of: ImageLimits.imageBytesMax)
    let map = BlockMap.raw(blocks: blocks)
    #expect(map.blockCount == blocks && map.offset(of: .max) == UInt64(UInt32.max) << 12)
    #expect(BlockMap.raw(blocks: 0).extents.isEmpty)
  }
}

/// What two hosts compare.
@Suite struct ImagePartsTests {
  @Test(arguments: [1, 2048, 2049, 9000]) func partsAreBoundedAndCompared(count: Int) throws {
    let regions = try (0..<count).map {
      RegionSummary(digest: try ImageIndexTests.digest(UInt64($0)), heldBlocks: 1)
    }
    let parts = ImageParts(regions)
    #expect(parts.numbers.count <= ImageParts.countMax)
    #expect(ImageParts(regionCount: count, bytes: parts.bytes) == parts)
    var other = regions
    other[count / 2] = RegionSummary(digest: try ImageIndexTests.digest(999_999), heldBlocks: 1)
    let same = parts.same(as: ImageParts(other))
    let blocks = UInt32(ImageLimits.regionBlocks)
    #expect(!parts.has(UInt32(count / 2) * blocks + 5, in: same))
    if count > 1 {
      #expect(parts.has(0, in: same))
      #expect(parts.has(UInt32(count - 1) * blocks, in: same))
    }
    #expect(same.reduce(0) { $0 + $1.nonzeroBitCount } == parts.numbers.count - 1)
  }

  @Test func whatNoIndexHasIsRefused() {
    #expect(ImageParts(regionCount: 3, bytes: [UInt8](repeating: 0, count: 23)) == nil)
    #expect(ImageParts(regionCount: -1, bytes: []) == nil)
    #expect(ImageParts(regionCount: .max, bytes: []) == nil)
    #expect(ImageParts(regionCount: 0, bytes: []) != nil)
  }

  @Test func otherLengthsHaveNothingInCommon() throws {
    let regions = try (0..<3000).map {
      RegionSummary(digest: try ImageIndexTests.digest(UInt64($0)), heldBlocks: 1)
    }
    let (long, short) = (ImageParts(regions), ImageParts(Array(regions[..<2000])))
    #expect(long.same(as: short).allSatisfy { $0 == 0 })
  }
}
