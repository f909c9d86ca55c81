import Base
import QEMUStream
import TestSupport
import Testing

@Suite struct SplitTests {
  @Test(arguments: UInt64(1)...60) func anySplitGivesTheSameEvents(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    let golden = GoldenStream.all[Int(seed) % GoldenStream.all.count]
    var whole = EventLog()
    _ = try read(golden.bytes, into: &whole)
    // Chunks from a few bytes to a few pages, mixed.
    let scale = UInt64.random(in: 1...15, using: &random)
    var split = EventLog()
    _ = try read(golden.bytes, into: &split) {
      Int(UInt64.random(in: 1...(1 << scale), using: &random))
    }
    #expect(whole.events == split.events, "seed \(seed), \(golden.name)")
  }

  /// One byte more at a time: every prefix is presented, and closing there must be refused.
  @Test(arguments: [
    "7.2-multifd", "10.0-multifd", "7.2-ignore-shared", "10.0-ignore-shared",
    "7.2-return-path", "10.0-postcopy",
  ])
  func everyPrefixIsIncomplete(name: String) throws {
    let bytes = try GoldenStream.named(name).bytes.prefix(140_000)
    var log = EventLog()
    var reader = StreamReader()
    var from = 0
    var completeAt: [Int] = []
    for to in 1...bytes.count {
      from += try bytes.withUnsafeBytes { raw throws(StreamError) in
        try reader.consume(raw.bytes.extracting(from..<to), &log)
      }
      guard from == to else { continue }
      var closed = reader
      var ignored = EventLog()
      if (try? closed.finish(&ignored)) != nil { completeAt.append(to) }
    }
    let isWhole = try GoldenStream.named(name).bytes.count == bytes.count
    // A prefix that ends with a footer and 00 looks like the end of a machine type without
    // description; the only one in these streams is the byte before `06`.
    if case .ended(let length) = log.events.last, length > 0 {
      #expect(completeAt == [bytes.count - length - 5, bytes.count])
    } else {
      #expect(completeAt == (isWhole ? [bytes.count] : []))
    }
  }

  @Test(arguments: [0, 1, 3, 10, 500]) func aVisitorThatStopsKillsTheReader(count: Int) throws {
    let bytes = try GoldenStream.named("7.2-precopy").bytes
    var reader = StreamReader()
    var log = EventLog(stopAt: count)
    #expect(throws: StreamError.stopped) { try reader.consume(bytes.span.bytes, &log) }
    #expect(throws: StreamError.stopped) { try reader.consume(bytes.span.bytes, &log) }
    #expect(throws: StreamError.stopped) { try reader.finish(&log) }
    #expect(log.events.count == count)
  }
}
