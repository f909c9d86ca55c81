import QEMUStream
import TestSupport
import Testing

@testable import Agent

/// Whether the guest ran right before its stop is known at the source before the destination can have all of it.
@Suite(.serialized, .timeLimit(.minutes(5))) struct RunStateTests {
  @Test(arguments: ["10.0-precopy", "7.2-q35-devices"]) func isTold(name: String) throws {
    let bytes = try GoldenStream.named(name).bytes
    #expect(try said(bytes) == [true])
    // The same guest, had its operator paused it.
    let running = Array("\u{8}running".utf8) + [0]
    let place = try #require(
      bytes.indices.first { bytes[$0...].starts(with: Array("globalstate".utf8)) })
    let at = place + 11 + 8 + 3
    #expect(Array(bytes[at..<at + running.count]) == running)
    var paused = bytes
    paused.replaceSubrange(at..<at + running.count, with: Array("\u{7}paused".utf8) + [0, 0])
    #expect(try said(paused) == [false])
  }

  /// The run states that the source's session hears, before the end of the stream.
  private func said(_ bytes: [UInt8]) throws -> [Bool?] {
    let rig = try RelayRig(laneCount: 1)
    _ = try RelayEndToEndTests.move(bytes, leaving: try MemoryImage(of: bytes), through: rig)
    var states: [Bool?] = []
    for case .stream(let event) in rig.events.all {
      if case .runState(let isRunning) = event { states.append(isRunning) }
      if case .ended = event { return states }
    }
    return []
  }
}
