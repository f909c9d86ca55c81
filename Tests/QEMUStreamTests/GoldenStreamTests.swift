import Base
import QEMUStream
import TestSupport
import Testing

@Suite struct GoldenStreamTests {
  /// What the reader must make of each capture, without the version.
  static func expectedReason(_ name: String) -> HandoverReason? {
    switch name {
    case "7.2-dirty-bitmap", "10.0-dirty-bitmap": .foreignIterable(name: "dirty-bitmap")
    case "10.0-virtio-mem": .earlyDeviceState(name: "0000:00:02.0/virtio-mem-device-early")
    default: nil
    }
  }

  @Test func bothVersionsAreThere() {
    for version in ["7.2", "10.0"] {
      let names = GoldenStream.all.map(\.name).filter { $0.hasPrefix(version) }
      #expect(names.count == 12, "\(names)")
    }
  }

  @Test(arguments: GoldenStream.all) func isRead(golden: GoldenStream) throws {
    var log = EventLog()
    let reader = try read(golden.bytes, into: &log)
    #expect(reader.isComplete)
    #expect(reader.position == UInt64(golden.bytes.count))
    let reasons = log.events.compactMap {
      if case .handedOver(let why, _, _) = $0 { why } else { nil }
    }
    let machine = reader.configuration?.machineType ?? ""
    #expect(machine.hasPrefix("pc-"), "\(machine)")
    if golden.name.hasSuffix("xbzrle") {
      let reason = try #require(reasons.first)
      guard case .ramRecord(let word) = reason else { throw reason.asError }
      #expect(word & 0xFFF == 0x040 | 0x020)
    } else {
      #expect(reasons == (Self.expectedReason(golden.name).map { [$0] } ?? []))
    }
    #expect(log.events.contains { if case .ended = $0 { true } else { false } })
  }

  /// With a return path QEMU keeps the connection open: the last byte alone must tell.
  @Test(arguments: ["return-path", "numa", "q35-devices", "ignore-shared", "postcopy"])
  func endIsKnownWithoutAClose(name: String) throws {
    for version in ["7.2", "10.0"] {
      let bytes = try GoldenStream.named("\(version)-\(name)").bytes
      var log = EventLog()
      var reader = StreamReader()
      var used = try reader.consume(bytes.span.bytes.extracting(0..<(bytes.count - 1)), &log)
      #expect(!reader.isComplete)
      used += try reader.consume(bytes.span.bytes.extracting(used..<bytes.count), &log)
      #expect(used == bytes.count)
      #expect(reader.isComplete, "\(version)-\(name)")
    }
  }

  @Test(arguments: ["7.2", "10.0"]) func blockListsAndDescriptions(version: String) throws {
    var log = EventLog()
    var reader = try read(GoldenStream.named("\(version)-numa").bytes, into: &log)
    #expect(reader.blocks.prefix(2).map(\.name) == ["mem0", "mem1"])
    #expect(reader.blocks.prefix(2).map(\.length) == [8 << 20, 8 << 20])
    let pagesOfSecond = log.events.filter {
      switch $0 {
      case .page(1, _, _), .zeroPage(1, _): true
      default: false
      }
    }
    #expect(pagesOfSecond.count >= 2048)

    log = EventLog()
    reader = try read(GoldenStream.named("\(version)-ignore-shared").bytes, into: &log)
    #expect(reader.configuration?.capabilities == ["x-ignore-shared"])
    #expect(reader.blocks.first?.address == 0)
    #expect(reader.blocks.allSatisfy { $0.address != nil && $0.pageSize == nil })

    log = EventLog()
    _ = try read(GoldenStream.named("\(version)-no-description").bytes, into: &log)
    #expect(log.events.last == .ended(0))

    log = EventLog()
    _ = try read(GoldenStream.named("\(version)-return-path").bytes, into: &log)
    guard case .ended(let length) = log.events.last,
      case .tail(let tail) = log.events.dropLast().last
    else { throw VisitorStopped() }
    #expect(tail[tail.count - length] == UInt8(ascii: "{"))
    #expect(tail[(tail.count - length - 6)..<(tail.count - length - 4)] == [0, 6])
  }

  @Test(arguments: ["7.2", "10.0"]) func postcopyOrder(version: String) throws {
    var log = EventLog()
    let reader = try read(GoldenStream.named("\(version)-postcopy").bytes, into: &log)
    #expect(reader.isPostcopy)
    var commands: [StreamCommand] = []
    for case .verbatim(let bytes, .command) in log.events {
      commands.append(try #require(try StreamCommand(record: bytes.span.bytes)))
    }
    let advise = StreamCommand.postcopyAdvise(.init(summary: 4096, targetPage: 4096))
    let isAdvised = commands.contains(advise)
    #expect(isAdvised)
    let names = commands.map(\.name)
    let isPackaged = names.contains("PACKAGED")
    #expect(isPackaged)
    #expect(names.first == "OPEN_RETURN_PATH")
    let packaged = try #require(
      log.events.firstIndex { if case .verbatim(_, .packaged) = $0 { true } else { false } })
    #expect(log.events[packaged...].contains(.partBegan))
    #expect(log.events.suffix(2) == [.tail([0]), .ended(0)])
  }

  @Test(arguments: ["7.2", "10.0"]) func multifdIsSeen(version: String) throws {
    var log = EventLog()
    let reader = try read(GoldenStream.named("\(version)-multifd").bytes, into: &log)
    // 7.2 flushes at each end of section and says nothing.
    #expect(version == "7.2" ? reader.multifdFlushCount == 0 : reader.multifdFlushCount > 0)
  }
}

extension HandoverReason {
  var asError: StreamError { .malformed(DecodeError(.badValue, in: "unexpected hand-over", at: 0)) }
}
