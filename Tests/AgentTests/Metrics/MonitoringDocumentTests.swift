import Foundation
import Strategy
import Testing

@testable import Agent

/// `Docs/monitoring.md` names every field and every metric that the programs say, and none that they don't.
@Suite struct MonitoringDocumentTests {
  private static let text = try? String(
    contentsOf: URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "../../../Docs/monitoring.md").standardized, encoding: .utf8)

  /// What stands between backquotes under a heading.
  private func named(under heading: String) throws -> Set<String> {
    let text = try #require(Self.text)
    let chapters = text.split(separator: "\n## ")
    let chapter = try #require(chapters.first { $0.hasPrefix(heading + "\n") })
    // The first column alone.
    let rows = chapter.split(separator: "\n").filter { $0.hasPrefix("| `") }
    let cells = rows.compactMap { $0.split(separator: "|").first }
    return Set(
      cells.flatMap { cell in
        cell.split(separator: "`", omittingEmptySubsequences: false).enumerated()
          .compactMap { $0.offset % 2 == 1 ? String($0.element) : nil }
      })
  }

  /// Names of all fields, those of parts behind the part's.
  private func fields(of value: some Encodable) throws -> Set<String> {
    func flatten(_ value: Any, _ path: String) -> [String] {
      guard let parts = value as? [String: Any] else { return [path] }
      return parts.flatMap { name, value in
        flatten(value, path.isEmpty ? name : "\(path).\(name)")
      }
    }
    let json = try JSONSerialization.jsonObject(with: JSONEncoder().encode(value))
    return Set(flatten(json, ""))
  }

  @Test func theRecord() throws {
    var record = MigrationRecord(outcome: .completed)
    (record.pull, record.kept) = (.init(), .init())
    record.eta = EtaRecord(EtaTrack(), totalMs: 1)
    #expect(try named(under: "The record of a migration") == fields(of: record))
  }

  @Test func theProgress() throws {
    let look = MigrationProgress(
      id: "1", vm: "v", peer: "p", side: "source", phase: .bulk, strategy: "auto")
    #expect(try named(under: "A running migration") == fields(of: look))
  }

  @Test func theMetrics() throws {
    let agent = try MetricsParser(MetricsTests.example().text)
    #expect(try named(under: "Metrics of an agent") == Set(agent.kinds.keys))
    let server = try MetricsParser(BlockMetricsTests.example().text)
    #expect(try named(under: "Metrics of a block server") == Set(server.kinds.keys))
  }
}
