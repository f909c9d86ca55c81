import Foundation
import Testing

@testable import Agent
@testable import BlockStore

@Suite struct BlockMetricsTests {
  private static func status<Status: Decodable>(_ text: String) throws -> Status {
    try JSONDecoder().decode(Status.self, from: Data(text.utf8))
  }

  static func example() throws -> BlockMetrics {
    let move: MoveStatus = try status(
      """
      {"disk":"a\\"b","destination":"nbd://secret/x","method":"waio","ending":"copy","phase":"mirroring",
      "diskBytes":1000,"neededBytes":300,"arrivedBytes":700,"wireBytes":600,"readBytes":650,"forwardedBytes":0,
      "mirroredBytes":9,"roundCount":1,"bytesPerSecond":null,"etaMs":1500,"connectionCount":2,"pauseUs":12345,
      "problem":"the destination is full"}
      """)
    let pull: DiskPullStatus = try status(
      """
      {"disk":"c","source":"nbd://secret/x","phase":"pulling","diskBytes":1000,"missingBytes":400,"fetchedBytes":500,
      "zeroBytes":100,"faults":7,"faultMeanUs":2000,"faultMaxUs":31000,"failedFaults":1,"bytesPerSecond":5,
      "etaMs":null,"connectionCount":1,"isWritten":true,"problem":null}
      """)
    let errors: [DiskErrorKind: UInt64] = [
      DiskErrorKind(request: .write, error: "ENOSPC"): 4,
      DiskErrorKind(request: nil, error: "EINVAL"): 2,
      DiskErrorKind(request: .read, error: "other"): 1,
    ]
    return BlockMetrics(
      version: "1.2.3", startedAtSeconds: 999,
      [
        BlockMetrics.Disk(
          export: "a\"b", byteCount: 1000, isReadOnly: false,
          requests: [(.read, 3, 12288), (.flush, 2, 0)], errors: errors, move: move, pull: nil),
        BlockMetrics.Disk(
          export: "c", byteCount: 1000, isReadOnly: true, requests: [(.read, 1, 1)], errors: [:],
          move: nil, pull: pull),
      ])
  }

  @Test func theTextIsWellFormed() throws {
    let text = try Self.example().text
    #expect(!text.contains("secret"))
    let metrics = try MetricsParser(text)
    #expect(metrics.kinds.keys.allSatisfy { $0.hasPrefix("godwit_block_") })
    func value(_ name: String, _ labels: [String: String]) -> Double? {
      metrics.value("godwit_block_" + name, labels)
    }
    #expect(value("info", ["version": "1.2.3"]) == 1)
    #expect(value("requests_total", ["export": "a\"b", "request": "read"]) == 3)
    #expect(value("request_bytes_total", ["export": "a\"b", "request": "read"]) == 12288)
    #expect(value("request_bytes_total", ["export": "a\"b", "request": "flush"]) == nil)
    for (request, error, count) in [
      ("write", "ENOSPC", 4.0), ("refused", "EINVAL", 2), ("read", "other", 1), ("read", "EIO", 0),
    ] {
      let labels = ["export": "a\"b", "request": request, "error": error]
      #expect(value("request_errors_total", labels) == count, "\(labels)")
    }
  }

  @Test func movesAndPullsHaveTheirStates() throws {
    let metrics = try MetricsParser(try Self.example().text)
    func value(_ name: String, _ export: String, _ phase: String? = nil) -> Double? {
      let labels = ["export": export].merging(phase.map { ["phase": $0] } ?? [:]) { $1 }
      return metrics.value("godwit_block_" + name, labels)
    }
    #expect(value("move_phase", "a\"b", "mirroring") == 1)
    #expect(value("move_phase", "a\"b", "copying") == 0)
    #expect(value("move_phase", "c", "copying") == nil)
    #expect(value("move_problem", "a\"b") == 1 && value("pull_problem", "c") == 0)
    #expect(value("move_remaining_bytes", "a\"b") == 300)
    #expect(value("move_eta_seconds", "a\"b") == 1.5)
    #expect(value("move_pause_seconds", "a\"b") == 0.012)
    // What isn't known has no sample.
    #expect(value("move_rate_bytes", "a\"b") == nil)
    #expect(value("move_surrogate_only_bytes", "a\"b") == nil)
    #expect(value("pull_phase", "c", "pulling") == 1 && value("pull_phase", "c", "done") == 0)
    #expect(value("pull_faults_total", "c") == 7 && value("pull_failed_faults_total", "c") == 1)
    #expect(value("pull_fault_max_seconds", "c") == 0.031)
    #expect(value("pull_eta_seconds", "c") == nil)
  }
}
