import Base
import HostIO
import QEMUStream
import TestSupport
import Testing
import Wire

@testable import Agent

/// The same as without compaction: what QEMU wrote at the source is what QEMU reads at the destination,
/// and what memory holds that is written in place.
@Suite(.serialized, .timeLimit(.minutes(5))) struct CompactionRelayTests {
  static let choices: [MigrationRequest.CompactionChoice] = [.auto, .lz4, .zstd]

  private func plan(_ choice: MigrationRequest.CompactionChoice) -> CompactionPlan? {
    CompactionPlan(choice, threads: 2)
  }

  @Test func offIsNoPlan() {
    #expect(plan(.off) == nil)
    #expect(plan(.auto)?.effort == nil && plan(.zstd)?.effort != nil)
  }

  @Test(arguments: GoldenStream.all) func capturesArriveWhole(golden: GoldenStream) throws {
    let before = try MemoryImage(of: golden.bytes)
    let rig = try RelayRig(laneCount: 3, compaction: plan(.zstd))
    let after = try RelayEndToEndTests.move(golden.bytes, leaving: before, through: rig)
    expectSame(before, after)
    let counters = rig.source.queue.snapshot.counters
    // Some captures have no pages, or pass through unread.
    if counters.rawPages + counters.compressedPages > 100 {
      #expect(counters.compressedPages > 0, "\(counters)")
      #expect(counters.wireBytes < (counters.rawPages + counters.compressedPages) << 12)
    }
  }

  @Test(arguments: choices, [1, 4]) func rewrittenPages(
    choice: MigrationRequest.CompactionChoice, laneCount: Int
  ) throws {
    let bytes = RelayEndToEndTests.busyGuest(seed: 5)
    let before = try MemoryImage(of: bytes)
    let rig = try RelayRig(laneCount: laneCount, compaction: plan(choice))
    expectSame(before, try RelayEndToEndTests.move(bytes, leaving: before, through: rig))
    #expect(rig.source.queue.snapshot.counters.compressedPages > 0)
  }

  @Test(arguments: [(true, true), (false, true), (true, false)])
  func sharedMemory(ends: (source: Bool, destination: Bool)) throws {
    let bytes = RelayEndToEndTests.busyGuest(seed: 9)
    let before = try MemoryImage(of: bytes)
    let pair = try SharedPair(before)
    let rig = try RelayRig(
      laneCount: 4, sourceShared: ends.source ? ["mem0": pair.source] : [:],
      destinationShared: ends.destination ? ["mem0": pair.destination] : [:],
      compaction: plan(.zstd))
    var after = try RelayEndToEndTests.move(bytes, leaving: before, through: rig)
    if ends.destination { try pair.collect(into: &after) }
    expectSame(before, after)
  }

  @Test(arguments: [1, 2, 3, 4] as [UInt64], [true, false])
  func nothingIsLostWhenLanesBreak(seed: UInt64, flipsBits: Bool) throws {
    let bytes = RelayEndToEndTests.busyGuest(seed: seed)
    let wire = FlakyWire(seed: seed, breaks: 12, bytesMax: 3000, flipsBits: flipsBits)
    let after = try ResumeTests.move(
      bytes, over: wire, laneCount: 3, compaction: plan(.zstd))
    expectSame(try MemoryImage(of: bytes), after)
    #expect(wire.made > 4, "no connection broke")
  }
}

/// `mem0` of a stream at both ends, in shared memory.
struct SharedPair {
  let source, destination: SharedFile
  private let memories: [MemoryFile]
  private let length: UInt64

  /// The source holds what the stream leaves, the destination something old everywhere: zero pages must
  /// be written, too.
  init(_ image: MemoryImage) throws {
    let length = image.blocks[0].length
    let memories = try (0..<2).map { _ in try MemoryFile(byteCount: Int(length), sealed: true) }
    let files = try memories.map {
      try SharedFile(path: $0.path, offset: 0, length: length, writable: true)
    }
    for (place, content) in image.pages where place.block == 0 && !content.isEmpty {
      try content.withUnsafeBytes { try files[0].write($0, at: UInt64(place.page) << 12) }
    }
    try [UInt8](repeating: 0xEE, count: Int(length)).withUnsafeBytes {
      try files[1].write($0, at: 0)
    }
    (self.memories, self.length, source, destination) = (memories, length, files[0], files[1])
  }

  /// What was written in place, as if the stream had brought it.
  func collect(into image: inout MemoryImage) throws {
    #expect(!image.pages.keys.contains { $0.block == 0 }, "pages of mem0 in the stream")
    var page = [UInt8](repeating: 0, count: Page.size)
    for number in 0..<Int(length >> 12) {
      try page.withUnsafeMutableBytes { try destination.read(at: UInt64(number) << 12, into: $0) }
      image.pages[.init(block: 0, page: number)] = page.allSatisfy { $0 == 0 } ? [] : page
    }
  }
}
