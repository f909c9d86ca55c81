import Base
import QEMUStream
import TestSupport
import Testing

@Suite struct BlockListTests {
  static let advise = StreamCommand.postcopyAdvise(.init(summary: 0x20_1000, targetPage: 4096))
  static let huge: UInt64 = 0x20_0000

  /// Which blocks have huge pages, and whether addresses are in the list, in every combination
  /// that changes what follows what.
  @Test(arguments: [true, false], 0..<8) func pageSizesAreFound(ignoresShared: Bool, mask: Int)
    throws
  {
    let addresses: [UInt64] = [0, 1 << 32, 0xFFFC_0000]
    let blocks = (0..<3).map { index in
      RAMBlock(
        name: "mem\(index)", length: UInt64(index + 1) * Self.huge,
        pageSize: mask & 1 << index != 0 ? Self.huge : nil,
        address: ignoresShared ? addresses[index] : nil)
    }
    let stream = SyntheticStream(
      blocks: blocks, capabilities: ignoresShared ? ["x-ignore-shared"] : [],
      commands: [Self.advise])
    var log = EventLog()
    for size in [1, 7, stream.bytes.count] {
      log = EventLog()
      #expect(throws: StreamError.self) { try read(stream.bytes, into: &log) { size } }  // no end
      let found = log.events.contains(.blocks(blocks, 2))
      #expect(found, "chunks of \(size)")
    }
  }

  @Test func wrongListsAreRefused() {
    func code(_ blocks: [RAMBlock], _ limits: StreamLimits = .standard) -> DecodeError.Code? {
      do {
        _ = try SyntheticStream(blocks: blocks).events(limits: limits)
        return nil
      } catch .malformed(let error) { return error.code } catch { return nil }
    }
    let page: UInt64 = 4096
    #expect(
      code([RAMBlock(name: "a", length: page), RAMBlock(name: "a", length: page)]) == .badName)
    #expect(code([RAMBlock(name: "", length: page)]) == .badName)
    #expect(
      code([RAMBlock(name: "a", length: 2048), RAMBlock(name: "b", length: 2048)]) == .unaligned)
    #expect(code([RAMBlock(name: "a", length: 1 << 47)]) == .overLimit)
    // More than the total: lengths that wrap around.
    #expect(
      code([RAMBlock(name: "a", length: 0 &- page), RAMBlock(name: "b", length: 2 * page)])
        == .overLimit)
    var limits = StreamLimits()
    limits.ramBlockCount = 3
    let many = (0..<4).map { RAMBlock(name: "\($0)", length: page) }
    #expect(code(many, limits) == .overLimit)
    #expect(code(Array(many.prefix(3)), limits) == .truncated)  // only the end is missing
    // Empty blocks do not use up the total, so their number must be limited by itself.
    #expect(
      code((0..<2000).map { RAMBlock(name: "\($0)", length: $0 == 1999 ? page : 0) }) == .overLimit)
  }

  @Test func aPageSizeThatWasNotAdvisedIsRefused() {
    let blocks = [
      RAMBlock(name: "a", length: Self.huge, pageSize: 1 << 30), RAMBlock(name: "b", length: 4096),
    ]
    #expect(throws: StreamError.self) {
      try SyntheticStream(blocks: blocks, commands: [Self.advise]).events()
    }
  }
}
