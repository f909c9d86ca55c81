import Foundation
import Testing

@testable import BlockStore

/// What `block status --json` prints.
@Suite struct StatusTests {
  /// Field names are a promise to scripts.
  @Test func everyFieldIsThereAndNullWhenNotKnown() throws {
    let pull = DiskPullStatus(
      disk: "d", source: "s", phase: .pulling, diskBytes: 1, missingBytes: 1, fetchedBytes: 0,
      zeroBytes: 0, faults: 0, failedFaults: 0, connectionCount: 1, isWritten: false)
    let surrogate = SurrogateStatus(
      place: "p", phase: .inUse, onlyHereBytes: 0, copiedBytes: 0, reads: 0, writes: 0,
      refusedWrites: 0, returnedBytes: 0)
    let move = MoveStatus(
      disk: "d", destination: "n", phase: .interrupted, diskBytes: 1, neededBytes: 1,
      arrivedBytes: 0, wireBytes: 0, readBytes: 0, forwardedBytes: 0, mirroredBytes: 0,
      roundCount: 0, connectionCount: 0)
    #expect(
      try nulls(pull) == ["faultMeanUs", "faultMaxUs", "bytesPerSecond", "etaMs", "problem"])
    #expect(try nulls(surrogate) == ["problem"])
    #expect(
      try nulls(move) == [
        "method", "ending", "bytesPerSecond", "etaMs", "pauseUs", "backupBytes", "backupRefusals",
        "skippedBytes", "baseRefusals", "surrogate", "problem",
      ])
  }

  /// The fields that are null; the value is the same after the way there and back.
  private func nulls<Value: Codable & Equatable>(_ value: Value) throws -> Set<String> {
    let bytes = try JSONEncoder().encode(value)
    #expect(try JSONDecoder().decode(Value.self, from: bytes) == value)
    let fields = try JSONSerialization.jsonObject(with: bytes) as? [String: Any]
    return Set(try #require(fields).filter { $0.value is NSNull }.keys)
  }
}
