import Base
import Compaction
import HostIO
import QEMUStream
import Testing

@testable import Agent

/// What pages cost that the guest goes on writing.
@Suite struct RewrittenPagesTests {
  static let pages: UInt64 = 300

  let guest: KeptGuest
  let memory: SampledMemory

  /// Pages of noise, and behind them as many that nobody touched.
  init() throws {
    let block = RAMBlock(name: "mem0", length: Self.pages * 2 << 12)
    guest = try KeptGuest([block])
    try guest.fill(0..<Int(Self.pages), block: 0, seed: 1)
    memory = SampledMemory(shared: [(name: block.name, file: guest.files[0])])
  }

  private func kept() throws -> RewrittenPages.Kept {
    try RewrittenPages.Kept(Array(0..<Self.pages * 2), of: memory)
  }

  private func write(_ content: [UInt8], to page: UInt64, at offset: UInt64 = 0) throws {
    try content.withUnsafeBytes { try guest.files[0].write($0, at: page << 12 + offset) }
  }

  @Test func tooFewSayNothing() throws {
    let kept = try kept()
    #expect(try RewrittenPages(kept, of: memory) == nil)
    for page in 0..<7 as Range<UInt64> { try write([1, 2, 3], to: page) }
    #expect(try RewrittenPages(kept, of: memory) == nil)
    try write([1, 2, 3], to: 500)
    #expect(try RewrittenPages(kept, of: memory)?.changedCount == 8)
    let none = try RewrittenPages.Kept([], of: memory)
    #expect(try RewrittenPages(none, of: memory) == nil)
  }

  /// Nobody can pack noise; of a page of it with 16 new bytes the difference is next to nothing.
  @Test(arguments: [Effort.lz4, .zstd1]) func littleChangesGoAsDifferences(effort: Effort) throws {
    let kept = try kept()
    for page in 0..<200 as Range<UInt64> {
      try write(Array(KeptGuest.content(Int(page), seed: 9).prefix(16)), to: page, at: 800)
    }
    let pages = try #require(try RewrittenPages(kept, of: memory))
    #expect(pages.changedCount == 200)
    #expect(pages.packing(effort).permille == 1000)
    let again = pages.packing(effort, again: true).permille
    #expect((1...60).contains(again), "\(again)")
  }

  /// What is new altogether is sent as it is, and zeros cost nothing.
  @Test func whatIsNewIsSent() throws {
    let kept = try kept()
    try guest.fill(0..<150, block: 0, seed: 2)
    let pages = try #require(try RewrittenPages(kept, of: memory))
    #expect(pages.packing(.lz4).permille == 1000)
    #expect(pages.packing(.lz4, again: true).permille == 1000)
    for page in 0..<75 as Range<UInt64> {
      try write([UInt8](repeating: 0, count: Page.size), to: page)
    }
    let half = try #require(try RewrittenPages(kept, of: memory))
    #expect(half.changedCount == 150)
    #expect(half.packing(.lz4, again: true).permille == 500)
  }

  /// By any clock: here each look at it is 64 µs after the last one, and 150 pages are two batches.
  @Test func packingIsTimed() throws {
    let kept = try kept()
    try guest.fill(0..<150, block: 0, seed: 2)
    let pages = try #require(try RewrittenPages(kept, of: memory))
    var now: UInt64 = 0
    func tick() -> UInt64 {
      now += 64
      return now
    }
    // 64 µs for 128 pages, and for 22: the median of two is the larger one.
    #expect(pages.packing(.lz4, nowUs: tick).pageNs == 64_000 / 22)
  }

  @Test func aSampleSaysWhatItCosts() throws {
    let kept = try kept()
    for page in 0..<100 as Range<UInt64> { try write([7, 7, 7, 7], to: page, at: 4000) }
    let pages = try #require(try RewrittenPages(kept, of: memory))
    let shared = GuestSample.Written(pages, againIsDifferent: true)
    #expect(shared.sampledPages == 100 && shared.lz4.permille == 1000)
    #expect(try #require(shared.againLZ4).permille < 60)
    #expect(try #require(shared.againZstd).permille < 60)
    let own = GuestSample.Written(pages, againIsDifferent: false)
    #expect(own.againLZ4 == nil && own.againZstd == nil && own.zstd.permille == 1000)
    let line = try JSONLine.encode(own)
    #expect(line.contains(#""againLZ4":null"#) && line.contains(#""zstd":{"#), "\(line)")
  }
}
