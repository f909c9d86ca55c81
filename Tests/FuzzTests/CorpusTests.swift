import Foundation
import FuzzHarness
import TestSupport
import Testing

/// Replays the inputs that the fuzzers found worth keeping.
@Suite struct CorpusTests {
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

  @Test func streamReader() throws { try replay("stream-reader", StreamReaderHarness.run) }
  @Test func returnPath() throws { try replay("return-path", ReturnPathHarness.run) }
  @Test func qmpLines() throws { try replay("qmp-lines", QMPLineHarness.run) }
  @Test func wireFrames() throws { try replay("wire-frames", WireFrameHarness.run) }
  @Test func nbdServer() throws { try replay("nbd-server", NBDServerHarness.run) }
  @Test func nbdClient() throws { try replay("nbd-client", NBDClientHarness.run) }
  @Test func pullFrames() throws { try replay("pull-frames", PullFrameHarness.run) }
  @Test func encodedPages() throws { try replay("encoded-pages", EncodedPagesHarness.run) }
  @Test func vault() throws { try replay("vault", VaultHarness.run) }
  @Test func diskManifest() throws { try replay("disk-manifest", DiskManifestHarness.run) }
  @Test func imageIndex() throws { try replay("image-index", ImageIndexHarness.run) }
  @Test func qcow2() throws { try replay("qcow2", Qcow2Harness.run) }
  @Test func traces() throws { try replay("traces", TraceHarness.run) }
  @Test func applyOrder() throws { try replay("apply-order", ApplyOrderHarness.run) }

  /// Larger than what a fuzzer makes: the captures, cut as the harness cuts.
  @Test(arguments: ["7.2-multifd", "10.0-multifd", "10.0-ignore-shared"])
  func captures(name: String) throws {
    let bytes = try GoldenStream.named(name).bytes
    for first in [0, 17, 60] as [UInt8] { #expect(StreamReaderHarness.run([first] + bytes) == nil) }
  }
}
