import Base
import HostIO
import QEMUStream
import TestSupport
import Testing
import Wire

@testable import Agent

/// What QEMU wrote at the source, through lanes over TCP, is what QEMU reads at the destination.
@Suite(.serialized, .timeLimit(.minutes(5))) struct RelayEndToEndTests {
  /// Moves `bytes` through both relays; returns what the destination's QEMU made of it.
  static func move(
    _ bytes: [UInt8], leaving before: MemoryImage, through rig: RelayRig
  ) throws -> MemoryImage {
    let collector = Collector(rig.destination.qemu)
    let writer = rig.feed(bytes, closing: true)
    writer.join()
    // QEMU closes only here; the stream was complete before.
    let failure = try #require(rig.events.failure(), "QEMU's close was not seen")
    #expect("\(failure)" == "QEMU's migration stream: closed by QEMU", "\(failure)")
    #expect(rig.events.hasEnded)
    for _ in 0..<3000 {
      collector.waitForQuiet(20)
      guard let after = try? MemoryImage(of: collector.bytes) else { continue }
      if (after.tail.count, after.opaque.count) == (before.tail.count, before.opaque.count) {
        break
      }
    }
    let broken = rig.destination.events.failure(timeoutMs: 0)
    #expect(broken == nil, "\(broken as Any)")
    rig.stop()
    return try MemoryImage(of: collector.finish())
  }

  @Test func capturesAreThere() { #expect(GoldenStream.all.count == 24) }

  @Test(arguments: GoldenStream.all, [1, 4]) func capturesArriveWhole(
    golden: GoldenStream, laneCount: Int
  ) throws {
    let before = try MemoryImage(of: golden.bytes)
    let rig = try RelayRig(laneCount: laneCount)
    let after = try Self.move(golden.bytes, leaving: before, through: rig)
    expectSame(before, after)
    let handedOver = rig.events.handover != nil
    #expect(handedOver == !before.opaque.isEmpty)
  }

  /// QEMU's own post-copy: what its package says is in it stays in one piece, however slowly it comes and whatever is owed.
  @Test func aPackageIsNotCutByPages() throws {
    let blocks = [RAMBlock(name: "mem0", length: 3000 << 12)]
    var stream = SyntheticStream(blocks: blocks)
    stream.part { writer, out in
      for page in 0..<UInt64(3000) {
        writer.pageHeader(block: 0, offset: page << 12, into: &out)
        out.append(contentsOf: repeatElement(UInt8(truncatingIfNeeded: page | 1), count: 4096))
      }
    }
    StreamCommand.packaged(length: 1000).encode(into: &stream.bytes)
    let cut = stream.bytes.count + 400
    stream.bytes += [UInt8](repeating: 0, count: 1000)
    stream.ramEnd()
    stream.bytes.append(0)  // the end of a post-copy stream
    let bytes = stream.bytes
    let before = try MemoryImage(of: bytes)
    let rig = try RelayRig(laneCount: 1)
    let collector = Collector(rig.destination.qemu)
    rig.feed(Array(bytes[..<cut]), closing: false).join()
    collector.waitForQuiet(100)
    rig.feed(Array(bytes[cut...]), closing: false).join()
    // Until everything that is owed has come.
    for _ in 0..<2400 {
      if let after = try? MemoryImage(of: collector.bytes), after.pages.count == 3000,
        after.verbatim.count >= before.verbatim.count
      {
        break
      }
      MonotonicClock.sleep(us: 50_000)
    }
    collector.waitForQuiet(300)
    rig.stop()
    let after = try MemoryImage(of: collector.finish())
    #expect(after.pages.count == 3000 && after.pages == before.pages)
    #expect(after.verbatim == before.verbatim)
  }

  /// Every page of three blocks, then parts that rewrite some again and again.
  static func busyGuest(seed: UInt64) -> [UInt8] {
    let blocks = [
      RAMBlock(name: "mem0", length: 300 << 12), RAMBlock(name: "mem1", length: 101 << 12),
      RAMBlock(name: "pc.bios", length: 7 << 12),
    ]
    var random = SplitMix64(seed: seed)
    var stream = SyntheticStream(blocks: blocks)
    func write(_ block: Int, _ page: Int, _ writer: inout RAMWriter, _ out: inout [UInt8]) {
      let offset = UInt64(page) << 12
      guard random.next() % 5 > 0 else {
        return writer.zeroPage(block: block, offset: offset, into: &out)
      }
      writer.pageHeader(block: block, offset: offset, into: &out)
      out.appendBE(random.next())
      out.append(contentsOf: repeatElement(UInt8(truncatingIfNeeded: page), count: 4080))
      out.appendBE(random.next())
    }
    for (number, block) in blocks.enumerated() {
      stream.part { writer, out in
        for page in 0..<block.pageCount { write(number, page, &writer, &out) }
      }
    }
    for _ in 0..<40 {
      stream.part { writer, out in
        for _ in 0..<40 {
          let block = Int(random.next() % 3)
          // Few pages, so that the same one comes again within a batch.
          let page = Int(random.next() % UInt64(min(blocks[block].pageCount, 40)))
          write(block, page, &writer, &out)
        }
      }
    }
    stream.ramEnd()
    stream.device("timer", [1, 2, 3])
    StreamItemWriter.end(description: SyntheticStream.description, into: &stream.bytes)
    return stream.bytes
  }

  @Test(arguments: [1, 2] as [UInt64], [1, 4, 16]) func rewrittenPages(
    seed: UInt64, laneCount: Int
  ) throws {
    let bytes = Self.busyGuest(seed: seed)
    let before = try MemoryImage(of: bytes)
    let rig = try RelayRig(laneCount: laneCount)
    let after = try Self.move(bytes, leaving: before, through: rig)
    expectSame(before, after)
    #expect(before.pages.count == 408)
  }

  /// `mem0` at the destination is written in place; at the source it is read from shared memory.
  @Test(arguments: [(true, true), (false, true), (true, false)], [true, false])
  func sharedMemory(ends: (source: Bool, destination: Bool), sealed: Bool) throws {
    let bytes = Self.busyGuest(seed: 9)
    let before = try MemoryImage(of: bytes)
    let length = before.blocks[0].length
    let memories = try (0..<2).map { _ in try MemoryFile(byteCount: Int(length), sealed: sealed) }
    let files = try memories.map {
      try SharedFile(path: $0.path, offset: 0, length: length, writable: true)
    }
    #expect(files[0].isMapped == sealed)
    for (place, content) in before.pages where place.block == 0 && !content.isEmpty {
      try content.withUnsafeBytes { try files[0].write($0, at: UInt64(place.page) << 12) }
    }
    // The destination has old content everywhere: zero pages must be written, too.
    try [UInt8](repeating: 0xEE, count: Int(length)).withUnsafeBytes {
      try files[1].write($0, at: 0)
    }
    let rig = try RelayRig(
      laneCount: 4, sourceShared: ends.source ? ["mem0": files[0]] : [:],
      destinationShared: ends.destination ? ["mem0": files[1]] : [:])
    var after = try Self.move(bytes, leaving: before, through: rig)
    if ends.destination {
      #expect(!after.pages.keys.contains { $0.block == 0 }, "pages of mem0 in the stream")
      var page = [UInt8](repeating: 0, count: Page.size)
      for number in 0..<Int(length >> 12) {
        try page.withUnsafeMutableBytes { try files[1].read(at: UInt64(number) << 12, into: $0) }
        let isZero = page.allSatisfy { $0 == 0 }
        after.pages[.init(block: 0, page: number)] = isZero ? [] : page
      }
    }
    expectSame(before, after)
  }

}
