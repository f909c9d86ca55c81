import Base
import QEMUStream
import TestSupport
import Testing

@Suite struct HandoverTests {
  /// A stream with a page of each block, then `broken`, then bytes no one could parse.
  private func events(
    _ broken: (inout SyntheticStream) -> Void
  ) throws -> (events: [EventLog.Event], offset: Int) {
    var stream = SyntheticStream()
    stream.part { writer, out in
      writer.zeroPage(block: 0, offset: 0, into: &out)
      let page = SyntheticStream.page
      writer.page(block: 1, offset: 4096, bytes: page.span.bytes, into: &out)
    }
    let offset = stream.bytes.count
    broken(&stream)
    stream.bytes += [0xDE, 0xAD]
    let events = try stream.events()
    guard case .verbatim(let opaque, .opaque) = events.dropLast().last else {
      throw VisitorStopped()
    }
    let handover = try #require(events.handover)
    #expect(opaque == Array(stream.bytes[Int(handover.offset)...]))
    #expect(events.last == .ended(0))
    return (events, offset)
  }

  @Test func foreignDevices() throws {
    var (events, offset) = try events { stream in
      StreamItemWriter.sectionHeader(
        .start, id: 9, name: "0000:00:03.0/vfio", instance: 0, version: 1, into: &stream.bytes)
    }
    #expect(events.handover?.reason == .foreignIterable(name: "0000:00:03.0/vfio"))
    #expect(events.handover?.offset == UInt64(offset))
    #expect(events.handover?.lastBlock == 1)
    (events, offset) = try self.events { $0.device("early", [1, 2, 3]) }
    #expect(events.handover?.reason == .earlyDeviceState(name: "early"))
    #expect(events.handover?.offset == UInt64(offset))
  }

  @Test func recordsAndCommands() throws {
    #expect(try events { $0.bytes += [0x42] }.events.handover?.reason == .recordType(0x42))
    #expect(
      try events { $0.bytes += [8, 0, 99, 0, 1, 0] }.events.handover?.reason == .command(99))
    #expect(
      try events { StreamCommand.enableCOLO.encode(into: &$0.bytes) }.events.handover?.reason
        == .command(8))
  }

  /// XBZRLE, hook, compression, unknown flags, known flags together, marks with an address.
  @Test(
    arguments: [0x60, 0x80, 0x100, 0x120, 0x400, 0x00A, 0x1010, 0x1200, 0x004, 0x000] as [UInt64])
  func ramRecords(word: UInt64) throws {
    let (events, offset) = try events { stream in
      stream.writer.beginPart(into: &stream.bytes)
      stream.bytes.appendBE(word)
    }
    #expect(events.handover?.reason == .ramRecord(word))
    // Inside the open section, behind its header.
    #expect(events.handover?.offset == UInt64(offset) + 5)
    #expect(events.contains(.partBegan))
    #expect(events.handover?.lastBlock == 1)
  }

  @Test func filledZeroPagesKeepTheLastBlock() throws {
    let (events, _) = try events { stream in
      stream.writer.beginPart(into: &stream.bytes)
      stream.writer.zeroPage(block: 0, offset: 0, into: &stream.bytes)
      stream.bytes[stream.bytes.count - 1] = 0x55
    }
    #expect(events.handover?.reason == .zeroPageFill(0x55))
    #expect(events.handover?.lastBlock == 1)
  }

  @Test func beforeRAM() throws {
    func reason(_ bytes: [UInt8]) throws -> HandoverReason? {
      var log = EventLog()
      _ = try read(bytes, into: &log)
      return log.events.handover?.reason
    }
    #expect(try reason([0x51, 0x45, 0x56, 0x4D, 0, 0, 0, 4]) == .streamVersion(4))
    #expect(
      try reason(SyntheticStream(capabilities: ["mapped-ram"]).bytes) == .capability("mapped-ram"))
    var bytes: [UInt8] = []
    StreamItemWriter.header(into: &bytes)
    StreamConfiguration(machineType: "virt", subsections: [.targetPageBits(14)]).encode(
      into: &bytes)
    #expect(try reason(bytes) == .targetPageBits(14))
    bytes = []
    StreamItemWriter.header(into: &bytes)
    StreamConfiguration(machineType: "virt").encode(into: &bytes)
    bytes += [5, 1, 0x78, 0, 0, 0, 1]
    #expect(try reason(bytes) == .configurationSubsection("x"))
    bytes = []
    StreamItemWriter.header(into: &bytes)
    StreamItemWriter.sectionHeader(
      .start, id: 2, name: "ram", instance: 0, version: 5, into: &bytes)
    bytes.appendBE(UInt64(4))
    #expect(try reason(bytes) == .ramVersion(5))
  }

  @Test func sectionsWithoutFooters() throws {
    let (events, offset) = try events { stream in
      stream.writer.beginPart(into: &stream.bytes)
      stream.bytes.appendBE(UInt64(0x010))
      stream.bytes.append(2)
    }
    #expect(events.handover?.reason == .missingFooter)
    #expect(events.handover?.offset == UInt64(offset) + 5)
  }
}
