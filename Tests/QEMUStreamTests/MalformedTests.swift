import Base
import QEMUStream
import TestSupport
import Testing

@Suite struct MalformedTests {
  private func code(_ bytes: [UInt8]) -> DecodeError.Code? {
    var log = EventLog()
    do {
      _ = try read(bytes, into: &log)
      return nil
    } catch .malformed(let error) { return error.code } catch { return nil }
  }

  private func code(_ change: (inout SyntheticStream) -> Void) -> DecodeError.Code? {
    var stream = SyntheticStream()
    change(&stream)
    return code(stream.bytes)
  }

  @Test func headers() {
    #expect(code([UInt8]()) == .truncated)
    #expect(code([0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1]) == .badMagic)  // a multifd channel
    #expect(code([0x51, 0x45, 0x56, 0x4D, 0, 0, 0, 3]) == .truncated)
    #expect(code([0x51, 0x45, 0x56, 0x4D, 0, 0, 0, 3, 7, 0xFF, 0xFF, 0xFF, 0xFF]) == .overLimit)
    #expect(code([0x51, 0x45, 0x56, 0x4D, 0, 0, 0, 3, 7, 0, 0, 0, 1, 0xFF]) == .badName)
  }

  @Test func pagesOutsideTheirBlock() {
    for word in [65 << 12, 0xFFFF_FFFF_FFFF_F000, 64 << 12] as [UInt64] {
      for flag in [0x002, 0x008] as [UInt64] {
        let found = code { stream in
          stream.writer.beginPart(into: &stream.bytes)
          stream.bytes.appendBE(word | flag)
          stream.bytes += [6] + Array("pc.ram".utf8) + SyntheticStream.page
        }
        #expect(found == .overLimit)
        // The same by the hot path's records.
        let again = code { stream in
          stream.writer.beginPart(into: &stream.bytes)
          stream.writer.zeroPage(block: 0, offset: 0, into: &stream.bytes)
          stream.bytes.appendBE(word | flag | 0x020)
          stream.bytes += SyntheticStream.page
        }
        #expect(again == .overLimit)
      }
    }
  }

  @Test func namesAndOrder() {
    #expect(
      code { stream in
        stream.writer.beginPart(into: &stream.bytes)
        stream.bytes.appendBE(UInt64(0x002))
        stream.bytes += [1, 0x78, 0]
      } == .badName)
    #expect(
      code { stream in
        stream.writer.beginPart(into: &stream.bytes)
        stream.bytes.appendBE(UInt64(0x022))
        stream.bytes += [0]
      } == .outOfOrder)
    #expect(code { $0.writer.start(into: &$0.bytes) } == .outOfOrder)
    #expect(code { $0.bytes += [0] } == .outOfOrder)  // EOF before RAM's END
    #expect(code { $0.bytes += [0x7E, 0, 0, 0, 2] } == .outOfOrder)
    #expect(code { $0.bytes += [2, 0, 0, 0, 3] } == .badValue)  // a section never started
    #expect(
      code { stream in
        stream.part()
        stream.bytes[stream.bytes.count - 1] = 3  // another section's footer
      } == .badValue)
  }

  @Test func lengthsOverTheirLimits() throws {
    #expect(code { $0.bytes += [8, 0, 6, 0xFF, 0xFF] } == .overLimit)
    #expect(code { $0.bytes += [8, 0, 2, 0, 3, 1, 2, 3] } == .badValue)
    var limits = StreamLimits()
    limits.tailLength = 1000
    var stream = SyntheticStream()
    stream.ramEnd()
    stream.bytes += [UInt8](repeating: 4, count: 1001)
    #expect(throws: StreamError.self) { try stream.events(limits: limits) }
  }

  @Test func bytesBehindTheEnd() {
    #expect(
      code { stream in
        stream.ramEnd()
        stream.device("timer", [1, 2, 3])
        StreamItemWriter.end(description: SyntheticStream.description, into: &stream.bytes)
        stream.bytes.append(0)
      } == .outOfOrder)
  }

  @Test func errorsSayWhere() {
    var stream = SyntheticStream()
    let offset = stream.bytes.count
    stream.bytes += [2, 0, 0, 0, 3]
    var log = EventLog()
    #expect(
      throws: StreamError.malformed(
        DecodeError(.badValue, in: "section id", at: UInt64(offset) + 1, found: 3, limit: 2))
    ) { try read(stream.bytes, into: &log) }
  }
}
