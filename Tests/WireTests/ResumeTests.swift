import Base
import Testing
import Wire

/// Both halves of a lane that survives its connections, against each other over seeds.
@Suite struct NumberedLaneTests {
  @Test(arguments: UInt64(1)...100) func eachFrameOnceInOrder(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    var (outbox, inbox) = (NumberedOutbox(), NumberedInbox())
    var taken: [UInt8] = []
    var onTheWay: [NumberedOutbox.Frame] = []
    var appended = 0
    while taken.count < 200 {
      switch random.next() % 10 {
      case 0...3 where appended < 200:
        outbox.append(.message, [UInt8(appended)])
        appended += 1
      case 4...6: if let frame = outbox.next() { onTheWay.append(frame) }
      case 7, 8:
        guard !onTheWay.isEmpty else { continue }
        let frame = onTheWay.removeFirst()
        if inbox.arrived(frame.number) == .new { taken += frame.payload }
        if random.next() % 3 == 0 { try outbox.confirm(through: inbox.receivedThrough) }
      default:
        guard random.next() % 4 == 0 else { continue }
        onTheWay = []  // the connection breaks with all that was on it
        try outbox.resume(after: inbox.receivedThrough)
      }
    }
    #expect(taken == (0..<200).map { UInt8($0) })
    try outbox.confirm(through: inbox.receivedThrough)
    #expect(outbox.byteCount == 0)
  }

  @Test func peerThatHasWhatWasNeverSent() throws {
    var outbox = NumberedOutbox()
    outbox.append(.message, [1, 2])
    #expect(throws: NumberedOutbox.Refusal.self) { try outbox.confirm(through: 1) }
    _ = outbox.next()
    try outbox.confirm(through: 1)
    #expect(throws: NumberedOutbox.Refusal.self) { try outbox.confirm(through: 0) }
    #expect(throws: NumberedOutbox.Refusal.self) { try outbox.resume(after: 2) }
  }

  @Test func gapsAndDuplicates() {
    var inbox = NumberedInbox()
    let arrivals = [1, 1, 3, 2, 0, UInt64.max].map { inbox.arrived($0) }
    #expect(arrivals == [.new, .duplicate, .gap, .new, .duplicate, .gap])
  }

  @Test func checksumsDoNotDependOnTheCut() {
    let bytes = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let whole = FrameChecksum.of(bytes.span.bytes)
    for cut in [0, 1, 20, 239, 240, 241, 9_999, 10_000] {
      let (head, body) = (Array(bytes[..<cut]), Array(bytes[cut...]))
      #expect(FrameChecksum.of(head.span.bytes, body.span.bytes) == whole)
    }
  }

  /// Every single bit of a header that is changed is noticed.
  @Test func changedHeaders() throws {
    var bytes: [UInt8] = []
    FrameHeader(type: .tail, payloadLength: 1234, number: 5, payloadChecksum: 99).encode(
      into: &bytes)
    for bit in 0..<(bytes.count * 8) {
      var changed = bytes
      changed[bit / 8] ^= 1 << UInt8(bit % 8)
      let error = #expect(throws: DecodeError.self) {
        var cursor = ByteCursor(changed.span.bytes)
        _ = try FrameHeader(decoding: &cursor)
      }
      #expect(error?.code == .badMagic || error?.code == .badChecksum)
    }
  }
}
