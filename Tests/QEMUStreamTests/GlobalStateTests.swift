import Base
import TestSupport
import Testing

@testable import QEMUStream

@Suite struct GlobalStateTests {
  private static func section(_ state: String, id: UInt32 = 9) -> [UInt8] {
    var body: [UInt8] = []
    body.appendBE(UInt32(state.utf8.count + 1))
    body += Array(state.utf8) + [UInt8](repeating: 0, count: 100 - state.utf8.count)
    var stream = SyntheticStream()
    stream.bytes = []
    stream.device("globalstate", body, id: id)
    return stream.bytes
  }

  private func state(of bytes: [UInt8], chunk: Int) -> String? {
    var scanner = GlobalStateScanner()
    var from = 0
    while from < bytes.count {
      let to = min(from + chunk, bytes.count)
      scanner.scan(bytes.span.bytes.extracting(from..<to))
      from = to
    }
    return scanner.runState
  }

  /// Of every capture that is read to its end: they were made of guests that ran.
  @Test(arguments: GoldenStream.all) func capturesRan(golden: GoldenStream) throws {
    var log = EventLog()
    _ = try read(golden.bytes, into: &log)
    let isHandedOver = log.events.contains { if case .handedOver = $0 { true } else { false } }
    #expect((state(of: golden.bytes, chunk: 4096) == "running") || isHandedOver)
  }

  @Test(arguments: ["running", "paused", "io-error", "guest-panicked"])
  func everySplit(name: String) {
    let noise: [UInt8] = [4, 0, 0, 0, 9, 11, 4, 4, 11, 0x7E]
    let bytes = noise + Self.section(name) + noise
    for chunk in 1...bytes.count {
      #expect(state(of: bytes, chunk: chunk) == name, "\(chunk)")
    }
  }

  @Test func whatIsNoneIsNotTaken() {
    let whole = Self.section("paused")
    #expect(whole.count == GlobalStateScanner.sectionLength)
    let states = whole.indices.dropFirst(5).map { index -> String? in
      var bytes = whole
      bytes[index] ^= 0x80
      return state(of: bytes, chunk: bytes.count)
    }
    // Behind the text nothing is looked at but the footer: a later QEMU keeps something there.
    let rest = GlobalStateScanner.sectionLength - 5
    for (offset, found) in states.enumerated() {
      let index = offset + 5
      let isFree = (25 + 4 + 7..<rest).contains(index)
      #expect((found != nil) == isFree, "byte \(index)")
    }
    for cut in 0..<whole.count {
      #expect(state(of: Array(whole.prefix(cut)), chunk: 64) == nil, "\(cut)")
    }
  }

  /// A device whose state the guest writes may hold a section that looks right.
  @Test func twoThatDifferSayNothing() {
    let forged = Self.section("running", id: 3)
    #expect(state(of: forged + Self.section("paused"), chunk: 50) == nil)
    #expect(state(of: Self.section("paused") + forged, chunk: 50) == nil)
    #expect(
      state(of: Self.section("paused", id: 3) + Self.section("paused"), chunk: 50) == "paused")
  }
}
