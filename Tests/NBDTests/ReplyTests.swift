import Base
import NBD
import Testing

/// What a server may not answer, and the forms of what it does.
@Suite struct ReplyTests {
  static func session(_ mode: ReplyMode) -> ClientSession {
    ClientSession(
      byteCount: 1 << 20, flags: .hasFlags, blockSizes: .usual, mode: mode,
      contexts: [.init(id: 7, name: NBDExtent.allocation)])
  }
  static let read = NBDRequest(.read, cookie: 5, offset: 0x1000, length: 0x20)

  @Test func answersHaveTheirGoldenForms() {
    var bytes: [UInt8] = []
    ReplyWriter(.structured).data(Self.read, at: 0x1000, count: 0x20, last: true, into: &bytes)
    #expect(
      bytes == [
        0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5,  // done, data, cookie
        0, 0, 0, 0x28, 0, 0, 0, 0, 0, 0, 0x10, 0,  // length, offset
      ])
    bytes = []
    ReplyWriter(.extended).success(Self.read, into: &bytes)
    #expect(
      bytes == [
        0x6e, 0x8a, 0x27, 0x8c, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5,
        0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      ])
    bytes = []
    ReplyWriter(.structured).failure(cookie: 5, offset: 0, .noSpace, "no", into: &bytes)
    #expect(
      bytes.dropFirst(4) == [
        0, 1, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, 28, 0, 2, 0x6e, 0x6f,
      ])
    bytes = []
    ReplyWriter(.simple).failure(cookie: 5, offset: 0, .notPermitted, into: &bytes)
    #expect(bytes == [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5])
    bytes = []
    let status = NBDRequest(.blockStatus, cookie: 5, offset: 0, length: 1 << 40)
    let extents = [NBDExtent(length: 1 << 33, flags: 3), NBDExtent(length: 1, flags: 0)]
    ReplyWriter(.structured).status(status, context: 7, extents, last: true, into: &bytes)
    // Cut to 32 bits, and nothing behind the cut.
    #expect(bytes.dropFirst(16) == [0, 0, 0, 12, 0, 0, 0, 7, 0xFF, 0xFF, 0, 0, 0, 0, 0, 3])
  }

  /// A structured chunk by hand.
  static func chunk(
    _ kind: UInt16, done: Bool = true, cookie: UInt64 = 5, _ data: [UInt8]
  ) -> [UInt8] {
    var bytes: [UInt8] = [0x66, 0x8e, 0x33, 0xef, 0, done ? 1 : 0]
    bytes.appendBE(kind)
    bytes.appendBE(cookie)
    bytes.appendBE(UInt32(data.count))
    return bytes + data
  }
  static func offset(_ value: UInt64, _ rest: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendBE(value)
    return bytes + rest
  }

  @Test func whatNoServerMayAnswer() {
    let half = [UInt8](repeating: 1, count: 0x10)
    let simple: [UInt8] = [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]
    let bad: [(String, [UInt8])] = [
      ("an unknown magic", [1, 2, 3, 4] + half),
      ("an unknown cookie", Self.chunk(0, cookie: 6, [])),
      ("a simple reply to a read", simple),
      ("the end before all data", Self.chunk(0, [])),
      ("half of the data", Self.chunk(1, Self.offset(0x1000, half))),
      ("data before the read", Self.chunk(1, Self.offset(0xFFF, half))),
      ("data behind the read", Self.chunk(1, Self.offset(0x1018, half))),
      ("data at the end of numbers", Self.chunk(1, Self.offset(.max, half))),
      ("empty data", Self.chunk(1, Self.offset(0x1000, []))),
      ("an empty hole", Self.chunk(2, Self.offset(0x1000, [0, 0, 0, 0]))),
      ("a hole that is too long", Self.chunk(2, Self.offset(0x1000, [0, 0, 0, 0x21]))),
      ("bytes behind a hole", Self.chunk(2, Self.offset(0x1000, [0, 0, 0, 0x20, 1]))),
      ("a chunk that does nothing", Self.chunk(0, done: false, [])),
      ("status of a read", Self.chunk(5, [0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0])),
      ("an error that is none", Self.chunk(0x8001, [0, 0, 0, 0, 0, 0])),
      ("an error that is cut off", Self.chunk(0x8001, [0, 0, 0, 5, 0, 9])),
      ("an unknown kind", Self.chunk(99, half)),
      ("extended status", Self.chunk(6, half + half)),
    ]
    for (name, bytes) in bad {
      var reader = ReplyReader(Self.session(.structured))
      reader.expect(Self.read)
      #expect(throws: DecodeError.self, "\(name)") { try reader.read(bytes.span.bytes) }
    }
  }

  @Test func dataThatComeTwiceAreRefused() throws {
    let half = [UInt8](repeating: 1, count: 0x10)
    let first = Self.chunk(1, done: false, Self.offset(0x1010, half))
    for again in [0x1010, 0x100F, 0x1008] as [UInt64] {
      var reader = ReplyReader(Self.session(.structured))
      reader.expect(Self.read)
      _ = try reader.read(first.span.bytes)
      let second = Self.chunk(1, Self.offset(again, half))
      #expect(throws: DecodeError.self) { try reader.read(second.span.bytes) }
    }
    var reader = ReplyReader(Self.session(.structured))
    reader.expect(Self.read)
    _ = try reader.read(first.span.bytes)
    let rest = Self.chunk(1, Self.offset(0x1000, half))
    let event = try reader.read(rest.span.bytes)?.event
    #expect(event == .data(cookie: 5, offset: 0x1000, count: 0x10, last: true))
    #expect(reader.pendingCount == 0)
  }

  @Test func statusOfWhatWasNotAgreedOnIsRefused() {
    let ask = NBDRequest(.blockStatus, cookie: 5, offset: 0, length: 4096)
    let bad: [[UInt8]] = [
      [0, 0, 0, 8, 0, 0, 0x10, 0, 0, 0, 0, 0],  // another context
      [0, 0, 0, 7],  // no extent
      [0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0],  // an empty one
      [0, 0, 0, 7, 0, 0, 0x10, 0, 0, 0, 0],  // cut off
    ]
    for data in bad {
      var reader = ReplyReader(Self.session(.structured))
      reader.expect(ask)
      let bytes = Self.chunk(5, data)
      #expect(throws: DecodeError.self) { try reader.read(bytes.span.bytes) }
    }
  }

  /// Not one bit of randomness makes a reader trap, whichever side.
  @Test(arguments: UInt64(1)...50) func noise(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    for _ in 0..<200 {
      let count = Int(random.next() % 200)
      let noise = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      for mode in ReplyMode.allCases {
        // The right magic, so that more is looked at.
        for magic in [0x6744_6698, 0x668e_33ef, 0x6e8a_278c] as [UInt32] {
          var reader = ReplyReader(Self.session(mode))
          reader.expect(Self.read)
          var bytes: [UInt8] = []
          bytes.appendBE(magic)
          bytes += noise
          _ = try? reader.read(bytes.span.bytes)
          #expect(reader.pendingCount <= 1)
        }
      }
    }
  }
}
