import Agent
import ArgumentParser
import Foundation
import Testing

@testable import CLI
@testable import Lab

@Suite struct LabReportCommandTests {
  private let folder = NSTemporaryDirectory() + "godwit-report-\(UUID().uuidString)"

  private func result(_ method: String) -> MatrixResult {
    var record = MigrationRecord(outcome: .completed)
    (record.scenario, record.totalMs) = ("mine", 2000)
    return MatrixResult(
      record: record,
      lab: .init(
        method: method, cell: "0/g/newest/\(method)", block: "0/g/newest", guest: "g",
        qemu: "newest", round: 0, seed: 1, fingerprint: "f", godwit: "0.1.0",
        host: Lab.HostFacts(processors: 2), linkBytesPerSecond: 125_000_000,
        network: "namespaces", workingSetBytes: 1, timeoutMs: 60_000))
  }

  private func report(_ arguments: String...) throws {
    let command = try #require(
      try GodwitCommand.parseAsRoot(["lab", "report"] + arguments) as? LabReportCommand)
    try command.run()
  }

  private var files: [String] {
    (try? FileManager.default.contentsOfDirectory(atPath: folder).sorted()) ?? []
  }

  @Test func aPageBesideTheResults() throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for method in ["qemu-precopy", "godwit-dsm"] {
      try ResultsFile(path: folder + "/a.jsonl").append(result(method))
    }
    // Whoever says what to write, or is a program, gets nothing else.
    try report(folder + "/a.jsonl", "--json")
    try report(folder + "/a.jsonl", "--html", folder + "/else/b.html")
    #expect(files == ["a.jsonl", "else"])
    try report(folder + "/a.jsonl")
    #expect(files == ["a.html", "a.jsonl", "else"])
    let page = try String(contentsOfFile: folder + "/a.html", encoding: .utf8)
    #expect(page.contains("<title>mine</title>") && page.hasSuffix("</html>\n"))
    #expect(try String(contentsOfFile: folder + "/else/b.html", encoding: .utf8) == page)
    try report(folder + "/a.jsonl", "--title", "other")
    let other = try String(contentsOfFile: folder + "/a.html", encoding: .utf8)
    #expect(other.contains("<title>other</title>"))
  }

  /// A page that is written anew has no pictures of what is no more in it.
  @Test func pagesLeaveNoOldPlots() throws {
    try FileManager.default.createDirectory(
      atPath: folder + "/out/a", withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try ResultsFile(path: folder + "/a.jsonl").append(result("godwit-dsm"))
    try Data().write(to: URL(filePath: folder + "/begun.jsonl"))
    for name in ["a/old.svg", "a/mine.txt", "other.svg"] {
      try Data().write(to: URL(filePath: "\(folder)/out/\(name)"))
    }
    try report(folder, "--pages", folder + "/out")
    let written = try FileManager.default.subpathsOfDirectory(atPath: folder + "/out")
    #expect(!written.contains("a/old.svg"))
    #expect(["a/mine.txt", "other.svg", "a.md"].allSatisfy(written.contains))
    #expect(written.contains { $0.hasPrefix("a/") && $0.hasSuffix(".svg") })
  }

  @Test func aPageForEachFileOfAFolder() throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for name in ["a", "b"] {
      try ResultsFile(path: "\(folder)/\(name).jsonl").append(result("godwit-dsm"))
    }
    // One that has just begun.
    try Data().write(to: URL(filePath: folder + "/c.jsonl"))
    try report(folder)
    #expect(files == ["a.html", "a.jsonl", "b.html", "b.jsonl", "c.jsonl"])
    #expect(throws: (any Error).self) { try report(folder, "--html", folder + "/x.html") }
  }
}
