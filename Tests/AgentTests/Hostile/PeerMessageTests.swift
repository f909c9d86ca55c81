import Base
import Foundation
import QEMUStream
import QMP
import Testing

@testable import Agent

/// JSON from a peer: decoded within limits, or refused; never a trap, never much memory.
@Suite(.timeLimit(.minutes(3))) struct PeerMessageTests {
  private func refusal(of text: String) -> String? {
    do throws(RelayFailure) {
      _ = try PeerMessage(decoding: [UInt8](text.utf8))
      return nil
    } catch { return "\(error)" }
  }

  static func facts() -> VMFacts {
    VMFacts(
      version: QEMUVersion(7, 2), usesKVM: false, machineType: "pc",
      uuid: "", runState: "running", isRunning: true, cpuCount: 1,
      ramBlocks: [.init(name: "pc.ram", usedSize: 1 << 20, totalSize: 1 << 20)],
      migrationStatus: "none")
  }

  static func prepare(vm: String, facts: VMFacts = facts()) -> PeerMessage {
    .prepare(
      .init(
        vm: vm, source: facts, commandLine: [], strategy: "precopy", audit: false,
        pageSource: .auto))
  }

  @Test(arguments: ["[", "{\"refused\":{\"_0\":[", "{\"a\":"]) func deepNesting(piece: String) {
    for depth in [10_000, 1_000_000] {
      #expect(refusal(of: String(repeating: piece, count: depth)) != nil)
      let closed = String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
      #expect(refusal(of: closed) != nil)
    }
  }

  @Test func eightMebibytes() {
    let before = residentBytes()
    let texts = [
      "{\"refused\":{\"_0\":[" + String(repeating: "{},", count: (8 << 20) / 3) + "{}]}}",
      "[" + String(repeating: "1,", count: 4 << 20) + "1]",
      "\"" + String(repeating: "\\u0041", count: (8 << 20) / 6) + "\"",
      "{\"abort\":{\"reason\":\"" + String(repeating: "x", count: 8 << 20),
      String(repeating: " ", count: 8 << 20), String(repeating: "\0", count: 8 << 20),
    ]
    for text in texts { #expect(refusal(of: text) != nil) }
    #expect(residentBytes() < before + 1 << 30)
  }

  @Test func randomBytesAndMutations() throws {
    let honest = try Self.prepare(vm: "a").encoded()
    let values = ["-1", "1e400", "18446744073709551616", "null", "[]", "{}", "\"\"", "true", "0.5"]
    for seed in 0..<2000 as Range<UInt64> {
      var random = SplitMix64(seed: seed)
      var bytes = honest
      if seed % 3 == 0 {
        bytes = (0..<Int(random.next() % 300)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      } else if seed % 3 == 1 {
        for _ in 0...Int(random.next() % 4) {
          bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
        }
      } else {
        // A number or a word becomes another value.
        let starts = bytes.indices.filter { bytes[$0] == UInt8(ascii: ":") }
        let at = try #require(starts.randomElement(using: &random)) + 1
        let end = bytes[at...].firstIndex { $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "}") }
        let value = try #require(values.randomElement(using: &random))
        bytes.replaceSubrange(at..<(end ?? bytes.count), with: value.utf8)
      }
      // Decoded or refused; the process goes on.
      do throws(RelayFailure) { _ = try PeerMessage(decoding: bytes) } catch {
        guard case .protocolViolation = error else { throw error }
      }
    }
  }

  @Test(arguments: [Int.min, -1, 0, 65, 65536, Int.max]) func laneCount(count: Int) {
    let text = #"{"begin":{"_0":{"laneCount":\#(count),"inPlaceBlocks":[],"networkPatienceMs":1}}}"#
    #expect(refusal(of: text)?.contains("lanes") == true)
  }

  /// Snapshots beyond what an honest peer offers or wants.
  @Test func furtherSnapshots() throws {
    func reason(offered: [UInt64]) throws -> String? {
      var offer = PeerMessage.PrepareOffer(
        destination: Self.facts(), host: HostFacts(memoryAvailable: 0), token: "", windowBytes: 1,
        sharedBlocks: [])
      offer.vault = offered.map { .init(seed: 1, storedPages: $0) }
      let bytes = try PeerMessage.offer(offer).encoded()
      return refusal(of: String(decoding: bytes, as: UTF8.self))
    }
    #expect(try reason(offered: [1 << 34, 0, 5, 7]) == nil)
    #expect(try reason(offered: [1, 1, 1, 1, 1])?.contains("further snapshots") == true)
    #expect(try reason(offered: [1 << 34 + 1])?.contains("further snapshot") == true)
    for (wanted, isSound) in [(-1, false), (0, true), (4, true), (5, false), (Int.max, false)] {
      let text =
        #"{"begin":{"_0":{"laneCount":1,"inPlaceBlocks":[],"networkPatienceMs":1,"#
        + #""vault":\#(wanted)}}}"#
      #expect((refusal(of: text) == nil) == isSound)
    }
  }

  /// What a source says about its progress is only shown, and nothing in it can hurt who shows it.
  @Test func progressIsBounded() throws {
    var honest = MigrationProgress(
      id: "a", vm: "v", peer: "p", side: "source", phase: .iterate, strategy: "precopy")
    (honest.progressPermille, honest.ramBytes, honest.wireBytesPerSecond) = (
      930, 1 << 30, 5_000_000
    )
    (honest.etaMs, honest.laneCount, honest.iteration) = (1234, 4, 3)
    guard
      case .progress(let read) = try PeerMessage(
        decoding: try PeerMessage.progress(PeerProgress(honest)).encoded())
    else { throw RelayFailure.protocolViolation("another message") }
    var shown = MigrationProgress(
      id: "a", vm: "v", peer: "s", side: "destination", phase: .bulk, strategy: "precopy")
    read.update(&shown)
    #expect(shown.side == "destination" && shown.peer == "s")
    #expect(shown.phase == .iterate && shown.progressPermille == 930 && shown.etaMs == 1234)
    #expect(shown.wireBytesPerSecond == 5_000_000 && shown.laneCount == 4 && shown.iteration == 3)

    var hostile = PeerProgress(honest)
    (hostile.phase, hostile.permille, hostile.etaMs) = (.done, .max, .max)
    (hostile.wireBytes, hostile.laneCount) = (.max, .min)
    guard
      case .progress(let bounded) = try PeerMessage(
        decoding: try PeerMessage.progress(hostile).encoded())
    else { throw RelayFailure.protocolViolation("another message") }
    #expect(bounded.phase == .switchover && bounded.permille == 999)
    #expect(bounded.etaMs == PeerProgress.numberMax && bounded.wireBytes == PeerProgress.numberMax)
    #expect(bounded.laneCount == 0)
    // Only this side knows of its own last phases.
    shown.phase = .commit
    bounded.update(&shown)
    #expect(shown.phase == .commit && shown.progressPermille == 999)
  }

  @Test func hugeNumbersInFactsAreOnlyCompared() throws {
    var facts = Self.facts()
    facts.cpuCount = .max
    facts.ramBlocks = (0..<4).map {
      .init(name: "b\($0)", usedSize: .max, totalSize: .max, pageSize: .max)
    }
    facts.disks = [.init(device: "d", virtualSize: .max)]
    let bytes = try Self.prepare(vm: "a", facts: facts).encoded()
    guard case .prepare(let read) = try PeerMessage(decoding: bytes) else {
      throw RelayFailure.protocolViolation("another message")
    }
    #expect(read.source.ramBytes == .max)
    let request = MigrationRequest(vm: "a", destination: "b")
    let host = HostFacts(memoryAvailable: 0)
    let refusals = PrepareChecks.check(
      source: Self.facts(), destination: read.source, host: host, request: request)
    #expect(!refusals.isEmpty)
    let other = PrepareChecks.check(
      source: read.source, destination: Self.facts(), host: host, request: request)
    #expect(!other.isEmpty)
  }

  private func layout(_ blocks: [RAMBlock]) throws -> String? {
    let bytes = try PeerMessage.layout(blocks, sectionID: 1).encoded()
    return refusal(of: String(decoding: bytes, as: UTF8.self))
  }

  @Test func layouts() throws {
    let accepted = try layout([RAMBlock(name: "a", length: 4096), RAMBlock(name: "b", length: 0)])
    #expect(accepted == nil)
    let refused: [[RAMBlock]] = [
      [RAMBlock(name: "a", length: .max)], [RAMBlock(name: "a", length: 4097)],
      [RAMBlock(name: "a", length: 1 << 46), RAMBlock(name: "b", length: 1 << 46)],
      [RAMBlock(name: "a", length: 1 << 63), RAMBlock(name: "b", length: 1 << 63)],
      [RAMBlock(name: "a", length: 4096), RAMBlock(name: "a", length: 4096)],
      [RAMBlock(name: "", length: 4096)],
      [RAMBlock(name: String(repeating: "n", count: 256), length: 4096)],
    ]
    for blocks in refused {
      let reason = try layout(blocks)
      #expect(reason?.contains("RAM block") == true, "\(blocks)")
    }
  }

  @Test func hundredThousandBlocks() throws {
    let before = residentBytes()
    let blocks = (0..<100_000).map { RAMBlock(name: "b\($0)", length: 4096) }
    let reason = try layout(blocks)
    #expect(reason?.contains("100000 RAM blocks") == true)
    #expect(residentBytes() < before + 512 << 20)
  }

  @Test func auditDigests() throws {
    func reason(_ firstPage: UInt64, _ byteCount: Int) throws -> String? {
      let bytes = try PeerMessage.auditPages(
        block: "a", firstPage: firstPage, digests: Data(count: byteCount)
      ).encoded()
      return refusal(of: String(decoding: bytes, as: UTF8.self))
    }
    #expect(try reason(0, 16384 * 16) == nil)
    for (first, count) in [(.max, 16), (1 << 52, 16), (0, 15), (0, 16385 * 16)] as [(UInt64, Int)] {
      #expect(try reason(first, count)?.contains("digests") == true)
    }
  }

  @Test func reasonsAreCut() throws {
    let long = String(repeating: "x", count: 100_000)
    guard
      case .failed(let reason) = try PeerMessage(
        decoding: PeerMessage.failed(reason: long).encoded())
    else { throw RelayFailure.stopped }
    #expect(reason.count == PeerMessageLimits.reasonMax)
  }
}
