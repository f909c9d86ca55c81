import Agent
import Foundation
import Testing

@testable import Lab

@Suite struct MatrixResultTests {
  static func result(
    _ method: String, round: Int = 0, guest: String = "g", totalMs: UInt64? = 5000,
    _ adjust: (inout MatrixResult) -> Void = { _ in }
  ) -> MatrixResult {
    var record = MigrationRecord(
      outcome: totalMs == nil ? .failed : .completed,
      reason: totalMs == nil ? "not finished after 60 s" : nil)
    record.method = method.hasPrefix("qemu") ? "qemu" : "godwit"
    record.scenario = "s"
    record.qemu = .init(source: "10.0.2", destination: "10.0.2")
    record.totalMs = totalMs ?? 60_000
    (record.wireBytes, record.downtimeMs) = (500 << 20, 100)
    var result = MatrixResult(
      record: record,
      lab: .init(
        method: method, cell: "\(round)/\(guest)/newest/\(method)",
        block: "\(round)/\(guest)/newest",
        guest: guest, qemu: "newest", round: round, seed: 1, fingerprint: "f", godwit: "0.1.0",
        host: HostFacts(processors: 2), linkBytesPerSecond: 125_000_000, network: "namespaces",
        workingSetBytes: 100 << 20, timeoutMs: 60_000))
    adjust(&result)
    return result
  }

  @Test func aLineIsTheRecordWithWhatTheLabKnows() throws {
    let result = Self.result("qemu-xbzrle") { $0.lab.damage = ["x"] }
    let line = try JSONLine.encode(result)
    #expect(try JSONLine.decode(MatrixResult.self, from: line.utf8) == result)
    #expect(try JSONLine.decode(MigrationRecord.self, from: line.utf8) == result.record)
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    // What DESIGN promises of every result, also where nothing was measured.
    for name in [
      "scenario", "method", "strategy", "qemu", "outcome", "reason", "totalMs", "downtimeMs",
      "clientGapMs", "wireBytes", "pages", "guest", "audit", "forecast", "disk",
    ] { #expect(object[name] != nil, "\(name)") }
    let lab = try #require(object["lab"] as? [String: Any])
    #expect(lab["method"] as? String == "qemu-xbzrle")
    #expect(lab["throughput"] is NSNull && lab["heartbeatGapMs"] is NSNull)
  }

  @Test func aFileGrowsAndATornLineIsWrittenAgain() throws {
    let path = NSTemporaryDirectory() + "godwit-results-\(UUID().uuidString).jsonl"
    defer { try? FileManager.default.removeItem(atPath: path) }
    let file = ResultsFile(path: path)
    #expect(try file.read() == [] && file.existing() == nil)
    let results = (0..<3).map { Self.result("godwit-precopy", round: $0) }
    try file.append(results[0])
    try file.append(results[1])
    #expect(try file.read() == Array(results[..<2]))
    // The power went in the middle of a longer line than the next one.
    let torn = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
    try torn.seekToEnd()
    try torn.write(
      contentsOf: Data(("{\"method\":\"god" + String(repeating: "w", count: 20_000)).utf8))
    try torn.close()
    #expect(try file.read() == Array(results[..<2]))
    try file.append(results[2])
    #expect(try file.read() == results)
    // Done again: the later one counts.
    var again = results[1]
    again.record.totalMs = 1
    try file.append(again)
    #expect(try file.read() == [results[0], results[2], again])
  }

  @Test(arguments: ["{}\n", "nonsense\n", "{\"outcome\":\"completed\"}\n"])
  func whatIsNoResultIsRefused(text: String) {
    #expect(throws: LabError.self) { try ResultsFile.parse(Array(text.utf8), path: "f") }
  }
}
