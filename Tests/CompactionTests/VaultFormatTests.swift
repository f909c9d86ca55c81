import Base
import Compaction
import Testing
import Wire

@Suite struct VaultFormatTests {
  static func head(seed: UInt64 = 5) throws -> VaultHead {
    var random = SplitMix64(seed: seed)
    return try #require(
      VaultHead(
        id: VaultID(using: &random), takenAt: 1_700_000_000, seed: random.next(), guest: "web-1",
        uuid: "6d5f3a52-0000-4000-8000-000000000001",
        blocks: [.init(name: "mem0", pages: 600), .init(name: "pc.bios", pages: 64)]))
  }

  static func bytes(_ encode: (inout [UInt8]) -> Void) -> [UInt8] {
    var bytes: [UInt8] = []
    encode(&bytes)
    return bytes
  }

  static func decoded(_ bytes: [UInt8]) throws -> VaultHead {
    try VaultHead(decoding: bytes.span.bytes)
  }

  @Test func headComesBack() throws {
    let head = try Self.head()
    let bytes = Self.bytes(head.encode)
    #expect(bytes.count <= VaultHead.byteCountMax)
    #expect(try VaultHead.byteCount(fixed: bytes.span.bytes) == bytes.count)
    #expect(try VaultHead(decoding: bytes.span.bytes) == head)
  }

  /// Cut anywhere, or with any byte changed, it is refused.
  @Test func headThatWasChangedIsRefused() throws {
    let bytes = Self.bytes(try Self.head().encode)
    for count in 0..<bytes.count {
      #expect(throws: DecodeError.self) { try Self.decoded(Array(bytes[..<count])) }
    }
    for place in bytes.indices {
      var changed = bytes
      changed[place] ^= 0x11
      #expect(throws: DecodeError.self, "byte \(place)") {
        try Self.decoded(changed)
      }
    }
    #expect(throws: DecodeError.self) { try Self.decoded(bytes + [0]) }
  }

  @Test func headsOverTheLimitsAreNotMade() {
    let id = VaultID(high: 1, low: 2)
    func head(_ name: String, takenAt: Int64 = 0, _ blocks: [VaultHead.Block]) -> VaultHead? {
      VaultHead(id: id, takenAt: takenAt, seed: 1, guest: name, uuid: "", blocks: blocks)
    }
    let block = VaultHead.Block(name: "a", pages: 1)
    #expect(head("g", [block]) != nil)
    #expect(head("g", []) == nil)
    #expect(head("g", [block, block]) == nil)
    #expect(head("g", takenAt: -1, [block]) == nil)
    #expect(head("g", [.init(name: "", pages: 1)]) == nil)
    #expect(head(String(repeating: "g", count: 1025), [block]) == nil)
    #expect(head("g", [.init(name: "a", pages: .max), .init(name: "b", pages: .max)]) == nil)
  }

  @Test func idsAreText() throws {
    let id = VaultID(high: 0x12, low: .max)
    #expect("\(id)" == "0000000000000012ffffffffffffffff")
    #expect(VaultID("\(id)") == id)
    for text in ["", "12", "+000000000000012ffffffffffffffff", "g0000000000000120000000000000000"] {
      #expect(VaultID(text) == nil)
    }
  }

  static func lookups(_ keys: [VaultKey]) -> [UInt8] {
    var bytes: [UInt8] = []
    for key in keys { bytes.appendBE(key.rawValue) }
    for index in keys.indices { bytes.appendBE(UInt64(index) &* 77) }
    return bytes
  }

  @Test func segmentsComeBack() throws {
    let keys = [
      VaultKey(block: 0, page: 3), VaultKey(block: 0, page: 599), VaultKey(block: 1, page: 0),
    ]
    let lookups = Self.lookups(keys)
    let segment = VaultSegment(
      pageCount: 3, firstIndex: 256, lookupChecksum: FrameChecksum.of(lookups.span.bytes),
      contentChecksum: 9)
    let bytes = Self.bytes(segment.encode)
    #expect(bytes.count == VaultSegment.headByteCount)
    var cursor = ByteCursor(bytes.span.bytes)
    #expect(try VaultSegment(decoding: &cursor) == segment)
    for place in bytes.indices {
      var changed = bytes
      changed[place] ^= 0x40
      #expect(throws: DecodeError.self) {
        var cursor = ByteCursor(changed.span.bytes)
        _ = try VaultSegment(decoding: &cursor)
      }
    }
    let head = try Self.head()
    let found = try segment.lookups(lookups.span.bytes, in: head, after: nil)
    #expect(found.map(\.key) == keys && found.map(\.filter) == [0, 77, 154])
    #expect(keys.map(\.block) == [0, 0, 1] && keys.map(\.page) == [3, 599, 0])
    // Not behind what came before; with a byte changed.
    #expect(throws: DecodeError.self) {
      try segment.lookups(lookups.span.bytes, in: head, after: keys[0])
    }
    var changed = lookups
    changed[5] ^= 1
    #expect(throws: DecodeError.self) {
      try segment.lookups(changed.span.bytes, in: head, after: nil)
    }
  }

  @Test(arguments: [
    [VaultKey(block: 0, page: 3), VaultKey(block: 0, page: 3)],
    [VaultKey(block: 0, page: 4), VaultKey(block: 0, page: 3)],
    [VaultKey(block: 0, page: 600)], [VaultKey(block: 2, page: 0)],
  ])
  func keysThatAreNoPagesAreRefused(keys: [VaultKey]) throws {
    let lookups = Self.lookups(keys)
    let segment = VaultSegment(
      pageCount: keys.count, firstIndex: 0, lookupChecksum: FrameChecksum.of(lookups.span.bytes),
      contentChecksum: 0)
    let head = try Self.head()
    #expect(throws: DecodeError.self) {
      try segment.lookups(lookups.span.bytes, in: head, after: nil)
    }
  }

  @Test(arguments: [0, 1, 255, 256, 257, 600] as [UInt64]) func partsFitTogether(pages: UInt64)
    throws
  {
    let head = try Self.head()
    let headByteCount = Self.bytes(head.encode).count
    let end = VaultEnd(
      id: head.id, storedPages: pages, zeroPages: 10, headByteCount: headByteCount)
    let bytes = Self.bytes(end.encode)
    #expect(bytes.count == VaultEnd.byteCount)
    #expect(try VaultEnd(decoding: bytes.span.bytes) == end)
    let full = Int(pages / 256)
    var size = headByteCount + full * VaultSegment.byteCountMax + VaultEnd.byteCount
    if pages % 256 > 0 { size += VaultSegment.byteCount(pages: Int(pages % 256)) }
    func parts(_ size: Int) throws -> VaultLayout {
      try VaultLayout(
        head: head, headByteCount: headByteCount, end: end, fileByteCount: UInt64(size))
    }
    let layout = try parts(size)
    #expect(layout.segmentCount == (pages + 255) / 256)
    #expect(throws: DecodeError.self) { try parts(size - 1) }
    #expect(throws: DecodeError.self) { try parts(size + 1) }
    if pages > 0 {
      // The last page ends where the end begins.
      #expect(
        Int(layout.contentOffset(pages - 1)) + Page.size == size - VaultEnd.byteCount)
    }
  }

  @Test func endsOfOtherHeadsAreRefused() throws {
    let head = try Self.head()
    let other = try Self.head(seed: 6)
    for end in [
      VaultEnd(id: other.id, storedPages: 0, zeroPages: 0, headByteCount: 100),
      VaultEnd(id: head.id, storedPages: 0, zeroPages: 0, headByteCount: 99),
      VaultEnd(id: head.id, storedPages: 600, zeroPages: 65, headByteCount: 100),
    ] {
      #expect(throws: DecodeError.self) {
        try VaultLayout(head: head, headByteCount: 100, end: end, fileByteCount: 156)
      }
    }
    var bytes = Self.bytes(
      VaultEnd(id: head.id, storedPages: 1, zeroPages: 2, headByteCount: 100).encode)
    bytes[30] ^= 4
    #expect(throws: DecodeError.self) { try VaultEnd(decoding: bytes.span.bytes) }
  }

  @Test func valueFallsWithAgeAndRisesWithUse() {
    let day: Int64 = 86_400
    let fresh = VaultValue(age: 60, uses: 0, bytes: 100)
    let old = VaultValue(age: day, uses: 0, bytes: 100)
    let oldAndUsed = VaultValue(age: day, uses: 40, bytes: 100)
    #expect(old < fresh && fresh < oldAndUsed)
    #expect(VaultValue(age: 60, uses: 0, bytes: 200) < fresh)
    #expect(VaultValue(age: .max, uses: .max, bytes: .max) < old)
    #expect(VaultValue(age: .min, uses: 0, bytes: 1) > old)
  }
}
