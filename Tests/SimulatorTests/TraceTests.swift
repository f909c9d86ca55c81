import Base
import Testing

@testable import Simulator

@Suite struct TraceTests {
  static let trace = DirtyTrace(
    ramPages: 196_608, zeroPages: 20_000, pageBytes: 4120, vcpuCount: 4,
    epochs: [
      .init(lengthMs: 1000, dirtiedByHeat: [512, 40, 12, 3, 0, 0, 0, 7]),
      .init(lengthMs: 250, dirtiedByHeat: [0, 0, 0, 0, 0, 0, 0, 0]),
    ])

  @Test func textReadsBackTheSame() throws {
    let text = Self.trace.text
    #expect(text.hasPrefix("godwit-trace 1\nram-pages 196608\n") && text.hasSuffix("\nend 2\n"))
    #expect(try DirtyTrace(parsing: [UInt8](text.utf8)) == Self.trace)
  }

  @Test func everyPrefixIsRefused() {
    let bytes = [UInt8](Self.trace.text.utf8)
    for count in 0..<bytes.count {
      #expect(throws: TraceRefusal.self) { try DirtyTrace(parsing: Array(bytes[..<count])) }
    }
  }

  @Test(arguments: [
    ("godwit-trace 1", "godwit-trace 2", 1), ("ram-pages 196608", "ram-pages 0", 3),
    ("ram-pages 196608", "ram-pages 99999999999999", 2),
    ("zero-pages 20000", "zero-pages 196609", 3),
    ("page-bytes 4120", "page-bytes 08", 4), ("vcpus 4", "vcpus  4", 5),
    ("epoch 1000 512", "epoch 0 512", 6), ("epoch 1000 512", "epoch 1000 196608", 6),
    ("epoch 250 0", "epoch 250 -1", 7), ("end 2", "end 3", 8), ("end 2\n", "end 2\nmore\n", 8),
  ]) func whatIsWrongIsRefusedByLine(good: String, bad: String, line: Int) {
    let text = Self.trace.text.replacing(good, with: bad)
    #expect(text != Self.trace.text)
    let refusal = #expect(throws: TraceRefusal.self) { try DirtyTrace(parsing: [UInt8](text.utf8)) }
    #expect(refusal?.line == line, "\(String(describing: refusal))")
  }

  /// A trace recorded from a model gives a model that dirties as much.
  @Test func aReplayDirtiesWhatTheOriginalDid() {
    let groups = [
      PageGroup(pages: 2000, writesPerSecond: 9000),
      PageGroup(pages: 10_000, writesPerSecond: 2500),
      PageGroup(pages: 50_000),
    ]
    let (recorded, original) = Self.record(GuestModel(groups: groups), epochs: 30)
    let replayed = Self.record(GuestModel(replaying: recorded), epochs: 30).dirtied
    #expect(abs(replayed / original - 1) < 0.05)
    let ram = GuestModel(replaying: recorded).ramPages
    #expect(abs(ram - 62_000) < 1)
  }

  static func record(_ guest: GuestModel, epochs: Int) -> (trace: DirtyTrace, dirtied: Double) {
    var memory = ExactMemory(guest)
    var noise = Noise(seed: 5)
    var trace = DirtyTrace(ramPages: UInt64(guest.ramPages.rounded()), vcpuCount: 4)
    var total = 0.0
    for _ in 0..<epochs {
      memory.run(ms: 500, atMs: 0, speed: 1, noise: &noise)
      _ = memory.beginCollect(noise: &noise)
      _ = memory.finishCollect()
      // What is owed was dirtied in this epoch alone: everything is sent after each.
      let byHeat = memory.owedByHeat
      _ = memory.send(bytes: 1e12, scanPermille: 0, holdFrom: 9, noise: &noise)
      trace.epochs.append(.init(lengthMs: 500, dirtiedByHeat: byHeat[1...].map { UInt64($0) }))
      total += byHeat.reduce(0, +)
    }
    return (trace, total)
  }
}
