import Foundation
import Testing

/// Replays the inputs that the fuzzers found worth keeping.
@Suite struct FuzzCorpusTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Fuzz/corpus")

  private func replay(_ target: String, _ run: ([UInt8]) -> String?) throws {
    let folder = Self.folder.appending(path: target)
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    #expect(names.count > 20, "the corpus of \(target) is missing")
    for name in names {
      let broken = run([UInt8](try Data(contentsOf: folder.appending(path: name))))
      #expect(broken == nil, "\(target)/\(name)")
    }
  }

  @Test func wireFrames() throws { try replay("wire-frames", WireFrameHarness.run) }
  @Test func applyOrder() throws { try replay("apply-order", ApplyOrderHarness.run) }
}
