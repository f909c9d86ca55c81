import ArgumentParser
import Foundation
import HostIO
import Testing

@testable import Agent
@testable import CLI

@Suite(.timeLimit(.minutes(2))) struct IndexCommandTests {
  private let folder = "/tmp/godwit-index-command-\(UUID().uuidString.prefix(8))"

  private func image() throws -> String {
    try PrivateDirectory.make(folder)
    let path = folder + "/disk.raw"
    try Data((0..<1 << 20).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 12) })
      .write(to: URL(filePath: path))
    return path
  }

  @Test func anImageIsTheDefaultCommandsArgument() throws {
    let build = try #require(
      try GodwitCommand.parseAsRoot(["index", "a.raw", "b.raw", "--threads", "3"])
        as? IndexBuildCommand)
    #expect(build.images == ["a.raw", "b.raw"] && build.threads == 3 && build.format == nil)
    let qcow2 = try #require(
      try GodwitCommand.parseAsRoot(["index", "build", "--format", "qcow2", "x", "--verify"])
        as? IndexBuildCommand)
    #expect(qcow2.format == .qcow2 && qcow2.verify)
    #expect(try GodwitCommand.parseAsRoot(["index", "list"]) is IndexListCommand)
    for wrong in [
      ["index", "a", "--threads", "0"], ["index", "a", "--verify", "--anew"],
      ["index", "a", "--format", "vmdk"],
    ] {
      #expect(throws: (any Error).self) { _ = try GodwitCommand.parseAsRoot(wrong) }
    }
  }

  @Test(.enabled(if: CommandProcess.binary != nil, "no built godwit")) func jsonAndExitStatus()
    async throws
  {
    let image = try image()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let options = ["--state-directory", folder + "/state", "--json"]
    let (status, output) = try await CommandProcess(["index", image] + options).end()
    #expect(status == 0)
    let outcome = try JSONLine.decode(
      ImageIndexing.Outcome.self, from: try #require(output.split(separator: "\n").first).utf8)
    #expect(outcome.image == image && outcome.action == .built && outcome.heldBytes == 1 << 20)
    let (listed, list) = try await CommandProcess(["index", "list"] + options).end()
    #expect(listed == 0 && list.contains(outcome.root))
    #expect(try await CommandProcess(["index", image, "--verify"] + options).end().status == 0)
    try Data(repeating: 9, count: 1 << 20).write(to: URL(filePath: image))
    let (changed, verified) = try await CommandProcess(["index", image, "--verify"] + options)
      .end()
    #expect(changed == Agent.ExitStatus.failed.rawValue && verified.contains("verified"))
    let none = try await CommandProcess(["index", folder + "/none"] + options).end()
    #expect(none.status == Agent.ExitStatus.failed.rawValue && none.output.isEmpty)
  }

  @Test func linesForPeople() {
    let half = IndexText.line(
      .init(path: "/d\u{1B}[2J", readBytes: 512 << 20, totalBytes: 1 << 30, elapsedMs: 1000))
    #expect(half.contains("50.0 %") && half.contains("1 s left") && !half.contains("\u{1B}"))
    #expect(half.contains("██████████░░░░░░░░░░"))
    let none = IndexText.line(.init(path: "/d", readBytes: 0, totalBytes: 0, elapsedMs: 0))
    #expect(none.contains("100.0 %"))
    var outcome = ImageIndexing.Outcome(
      image: "/d", format: "raw", action: .unchanged, imageBytes: 1 << 30, heldBytes: 1 << 20,
      indexBytes: 4096, readBytes: 0, elapsedMs: 5, regions: 64, resumedRegions: 0,
      changedRegions: nil, wasChangedMeanwhile: true, root: "00")
    #expect(IndexText.lines(outcome).joined().contains("unchanged"))
    #expect(IndexText.lines(outcome).joined().contains("written to meanwhile"))
    (outcome.action, outcome.changedRegions) = (.verified, 3)
    #expect(IndexText.lines(outcome)[0].contains("3 of 64 regions differ"))
  }
}
