import Base
import Compaction
import Testing

/// qcow2 images by hand: what is read of them, and what is refused. Images that qemu-img made are with the agent's
/// tests.
@Suite struct Qcow2Tests {
  /// A header of version 3 with clusters of 64 KiB; tables at clusters 1 and 2, data from cluster 3 on.
  struct Image {
    var version: UInt32 = 3
    var nameOffset: UInt64 = 0
    var nameCount: UInt32 = 0
    var clusterBits: UInt32 = 16
    var imageBytes: UInt64 = 1 << 20
    var encryption: UInt32 = 0
    var l1Count: UInt32 = 1
    var l1Offset: UInt64 = 1 << 16
    var incompatible: UInt64 = 0
    var headerBytes: UInt32 = 104
    var rest: [UInt8] = []

    var bytes: [UInt8] {
      var out: [UInt8] = []
      out.appendBE(Qcow2Header.magic)
      out.appendBE(version)
      out.appendBE(nameOffset)
      out.appendBE(nameCount)
      out.appendBE(clusterBits)
      out.appendBE(imageBytes)
      out.appendBE(encryption)
      out.appendBE(l1Count)
      out.appendBE(l1Offset)
      out += [UInt8](repeating: 0, count: 24)
      if version == 3 {
        out.appendBE(incompatible)
        out += [UInt8](repeating: 0, count: 20)
        out.appendBE(headerBytes)
      }
      return out + rest
    }

    var header: Qcow2Header {
      get throws { try Qcow2Header(decoding: bytes.span.bytes) }
    }
  }

  static func table(_ entries: [UInt64], count: Int = 8192) -> [UInt8] {
    var out: [UInt8] = []
    for entry in entries { out.appendBE(entry) }
    return out + [UInt8](repeating: 0, count: (count - entries.count) * 8)
  }

  @Test func dataClustersAreMapped() throws {
    let header = try Image().header
    #expect(header.l1Count == 1 && header.clusterBytes == 65536 && header.backingName == nil)
    var map = Qcow2Map(header, fileBytes: 16 << 16)
    #expect(map.l1.offset == 1 << 16 && map.l1.byteCount == 8)
    let copied: UInt64 = 1 << 63
    let tables = try map.tables(Self.table([copied | 2 << 16], count: 1).span.bytes)
    #expect(tables.map(\.number) == [0] && tables.map(\.offset) == [2 << 16])
    // Two that follow each other, a hole, a compressed one, one of zeros, one by itself.
    let entries: [UInt64] = [
      copied | 5 << 16, copied | 6 << 16, 0, 1 << 62 | 0x1234_5678, copied | 7 << 16 | 1,
      copied | 3 << 16,
    ]
    try map.append(table: 0, Self.table(entries).span.bytes)
    #expect(
      map.map.extents == [
        .init(first: 0, count: 32, offset: 5 << 16), .init(first: 80, count: 16, offset: 3 << 16),
      ])
  }

  /// Version 2 has no clusters of zeros; its bit is reserved.
  @Test func anImageThatEndsWithinACluster() throws {
    let header = try Image(version: 2, imageBytes: 5 << 12).header
    var map = Qcow2Map(header, fileBytes: 4 << 16)
    try map.append(table: 0, Self.table([1 << 63 | 3 << 16, 1 << 63 | 2 << 16]).span.bytes)
    #expect(map.map.extents == [.init(first: 0, count: 5, offset: 3 << 16)])
  }

  @Test func theImageBehindIsNamed() throws {
    var extensions: [UInt8] = []
    // An extension that is not known, of 5 bytes, then the format.
    extensions.appendBE(UInt32(0x6803_F857))
    extensions.appendBE(UInt32(5))
    extensions += [1, 2, 3, 4, 5, 0, 0, 0]
    extensions.appendBE(UInt32(0xE279_2ACA))
    extensions.appendBE(UInt32(5))
    extensions += Array("qcow2".utf8) + [0, 0, 0]
    extensions += [UInt8](repeating: 0, count: 8)
    let name = Array("base image.qcow2".utf8)
    var image = Image(rest: extensions + name)
    (image.nameOffset, image.nameCount) = (UInt64(104 + extensions.count), UInt32(name.count))
    let header = try image.header
    #expect(header.backingName == "base image.qcow2" && header.backingFormat == "qcow2")
    image.nameCount = 1024
    #expect(throws: Qcow2Refusal.self) { _ = try image.header }
    image.nameCount = 500
    #expect(throws: Qcow2Refusal.self) { _ = try image.header }
  }

  @Test func whatCannotBeReadIsRefusedByName() throws {
    var cases: [(Image, Qcow2Refusal)] = []
    var image = Image()
    image.encryption = 2
    cases.append((image, .encrypted))
    for (bit, refusal) in [
      (1, .corrupt), (2, .externalData), (4, .subclusters), (9, .unknownFeature(bits: 1 << 9)),
    ] as [(UInt64, Qcow2Refusal)] {
      image = Image()
      image.incompatible = 1 << bit
      cases.append((image, refusal))
    }
    image = Image()
    (image.clusterBits, image.l1Count) = (9, 1 << 20)
    cases.append((image, .smallClusters(byteCount: 512)))
    for (image, refusal) in cases {
      #expect(throws: refusal) { _ = try image.header }
    }
    // Reference counts that are behind, and compression by zstd, are no reason.
    image = Image()
    image.incompatible = 1 | 1 << 3
    #expect(try image.header.l1Count == 1)
  }

  @Test func brokenHeadersAreRefused() throws {
    let changes: [@Sendable (inout Image) -> Void] = [
      { $0.version = 4 }, { $0.clusterBits = 22 }, { $0.clusterBits = 8 },
      { $0.imageBytes = .max }, { $0.imageBytes = ImageLimits.imageBytesMax + 1 },
      { $0.l1Count = 0 }, { $0.l1Offset = 77 }, { $0.l1Offset = 1 << 63 },
      { $0.headerBytes = 96 }, { $0.headerBytes = .max }, { $0.nameOffset = 1 << 40 },
      // Covers more than the first table has entries for.
      { $0.imageBytes = 1 << 30 },
    ]
    for (index, change) in changes.enumerated() {
      var image = Image()
      change(&image)
      let broken = image
      #expect(throws: Qcow2Refusal.self, "change \(index)") { _ = try broken.header }
    }
    let whole = Image().bytes
    for count in whole.indices {
      #expect(throws: Qcow2Refusal.self) {
        _ = try Qcow2Header(decoding: Array(whole[..<count]).span.bytes)
      }
    }
  }

  @Test func brokenTablesAreRefused() throws {
    let header = try Image().header
    let map = Qcow2Map(header, fileBytes: 4 << 16)
    // Unaligned, beyond the file, cut short.
    for entry in [1 << 63 | 0x1200, 1 << 63 | 4 << 16] as [UInt64] {
      #expect(throws: DecodeError.self) {
        _ = try map.tables(Self.table([entry], count: 1).span.bytes)
      }
      #expect(throws: DecodeError.self) {
        var map = map
        try map.append(table: 0, Self.table([entry]).span.bytes)
      }
    }
    #expect(throws: DecodeError.self) { _ = try map.tables(([0, 1] as [UInt8]).span.bytes) }
    // One cluster of the file for all of the guest's: more data than there is.
    #expect(throws: DecodeError.self) {
      var map = map
      try map.append(
        table: 0, Self.table([UInt64](repeating: 1 << 63 | 3 << 16, count: 16)).span.bytes)
    }
  }
}
