import Base
import QEMUStream
import Testing

@Suite struct ReturnPathTests {
  static let all: [(ReturnPathMessage, [UInt8])] = [
    (.shut(0), [0, 1, 0, 4, 0, 0, 0, 0]),
    (.shut(1), [0, 1, 0, 4, 0, 0, 0, 1]),
    (.pong(3), [0, 2, 0, 4, 0, 0, 0, 3]),
    (
      .requestPages(start: 0x1000, length: 4096, block: "pc.ram"),
      [0, 3, 0, 19, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x10, 0, 6] + Array("pc.ram".utf8)
    ),
    (
      .requestPages(start: 0x2000, length: 8192, block: nil),
      [0, 4, 0, 12, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0x20, 0]
    ),
    (
      .receivedBitmap(block: "r", bits: [0xFF, 1]),
      [0, 5, 0, 2, 1, 0x72, 0, 0, 0, 0, 0, 0, 0, 2, 0xFF, 1]
        + [0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF]
    ),
    (.resumeAck(1), [0, 6, 0, 4, 0, 0, 0, 1]),
    (.switchoverAck, [0, 7, 0, 0]),
  ]

  @Test(arguments: all.indices) func bytesAreThoseOfTheFormat(index: Int) throws {
    let (message, bytes) = Self.all[index]
    var out: [UInt8] = []
    message.encode(into: &out)
    #expect(out == bytes)
    var reader = ReturnPathReader()
    let decoded = try reader.receive(bytes.span.bytes)
    #expect(decoded == [message])
    #expect(!reader.hasIncompleteMessage)
  }

  @Test(arguments: UInt64(1)...200) func anySplitGivesTheSameMessages(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    let messages = (0..<30).map { _ in Self.all.randomElement(using: &random)!.0 }
    var bytes: [UInt8] = []
    for message in messages { message.encode(into: &bytes) }
    var reader = ReturnPathReader()
    var decoded: [ReturnPathMessage] = []
    var from = 0
    while from < bytes.count {
      let to = from + Int.random(in: 1...min(12, bytes.count - from), using: &random)
      decoded += try reader.receive(bytes.span.bytes.extracting(from..<to))
      from = to
    }
    #expect(decoded == messages, "seed \(seed)")
    #expect(!reader.hasIncompleteMessage)
  }

  /// Wrong types, wrong lengths, names that are none, claims of 2^64: each refused by its header.
  static let hostile: [[UInt8]] = [
    [0, 0, 0, 0], [0, 8, 0, 0], [0xFF, 0xFF, 0xFF, 0xFF], [0, 1, 0, 3], [0, 7, 0, 1],
    [0, 4, 0, 13],
    [0, 3, 0, 13], [0, 3, 0xFF, 0xFF],
    [0, 3, 0, 14, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0x20, 0, 2, 0x61],  // name over the message
    [0, 3, 0, 14, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0x20, 0, 1, 0xFF],  // not UTF-8
    [0, 5, 0, 2, 4, 0x72],  // the same, with nothing behind it yet
    [0, 5, 0, 2, 1, 0x72] + [UInt8](repeating: 0xFF, count: 8),
    [0, 5, 0, 2, 1, 0x72] + [0, 0, 0, 0, 0, 0, 0, 0] + [UInt8](repeating: 0, count: 8),  // end mark
  ]

  @Test(arguments: hostile) func hostileMessagesAreRefused(bytes: [UInt8]) throws {
    var reader = ReturnPathReader()
    #expect(throws: DecodeError.self) { try reader.receive(bytes.span.bytes) }
    let more: [UInt8] = [0, 7, 0, 0]
    #expect(throws: DecodeError.self) { try reader.receive(more.span.bytes) }
  }

  @Test(arguments: UInt64(1)...200) func randomBytesNeverTrap(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    var reader = ReturnPathReader()
    for _ in 0..<100 {
      let bytes = (0..<8).map { _ in UInt8.random(in: 0...7, using: &random) }
      do { _ = try reader.receive(bytes.span.bytes) } catch { return }
    }
    #expect(reader.hasIncompleteMessage, "400 bytes of noise were a session, seed \(seed)")
  }
}
