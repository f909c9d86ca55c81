import Base
import Compaction
import Foundation
import HostIO
import Testing

@testable import Agent

/// Images that QEMU's own tools made.
@Suite(
  .timeLimit(.minutes(5)),
  .enabled(if: SmallFile.isExecutable("/usr/bin/qemu-img"), "skipped: no qemu-img (qemu-utils)"))
struct Qcow2ImageTests {
  static let blocks: UInt64 = 8192
  static let held: [UInt64] = Array(stride(from: 5, to: 6000, by: 7)) + [8191]

  private func make(_ scratch: ImageScratch, _ name: String, _ options: [String]) async throws
    -> (raw: String, qcow2: String)
  {
    let raw = try scratch.raw("source.raw", blocks: Self.blocks, held: Self.held)
    let qcow2 = "\(scratch.path)/\(name)"
    // Not LUKS: qemu-img measures its key derivation, and fails where it can't.
    try await Command.run(
      "qemu-img", ["convert", "-f", "raw", "-O", "qcow2"] + options + [raw, qcow2])
    return (raw, qcow2)
  }

  @Test(arguments: [
    [], ["-o", "compat=0.10"], ["-o", "cluster_size=4096"], ["-o", "cluster_size=2M"],
    ["-o", "lazy_refcounts=on"], ["-o", "preallocation=metadata"],
  ]) func theSameBlocksAsInTheRawImage(options: [String]) async throws {
    let scratch = try ImageScratch()
    let (raw, qcow2) = try await make(scratch, "disk.qcow2", options)
    let outcome = try #require(try scratch.indexing("a", .qcow2).run(qcow2).first)
    let plain = try #require(try scratch.indexing().run(raw).first)
    #expect(outcome.heldBytes == plain.heldBytes && outcome.imageBytes == plain.imageBytes)
    // Digests don't depend on where the image's bytes are in its file.
    #expect(outcome.root == plain.root)
    let index = try #require(scratch.indexing().folder.load(qcow2))
    let file = try ImageFile(path: qcow2)
    let buffer = PageBuffer(byteCount: Page.size)
    for block in Self.held {
      #expect(index.find(TestImage.content(block)) == UInt32(block))
      let offset = try #require(index.index.map.offset(of: UInt32(block)))
      #expect(try file.read(at: offset, into: buffer.part(0, Page.size)) == Page.size)
      #expect(buffer.part(0, Page.size).elementsEqual(TestImage.content(block)))
    }
  }

  @Test func compressedClustersAreLeftOut() async throws {
    let scratch = try ImageScratch()
    let raw = try scratch.raw("source.raw", blocks: 4096, held: [])
    let text = Data(String(repeating: "compressible ", count: 80_000).utf8)
    try text.write(to: URL(filePath: raw))
    let qcow2 = scratch.path + "/disk.qcow2"
    try await Command.run("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", "-c", raw, qcow2])
    let outcome = try #require(try scratch.indexing("a", .qcow2).run(qcow2).first)
    #expect(outcome.heldBytes == 0 && outcome.imageBytes > 0)
  }

  @Test func everyImageOfAChainHasItsOwn() async throws {
    let scratch = try ImageScratch()
    let (_, base) = try await make(scratch, "base.qcow2", [])
    let top = scratch.path + "/top.qcow2"
    try await Command.run(
      "qemu-img", ["create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", top])
    try await Command.run(
      "qemu-io", ["-f", "qcow2", "-c", "write -P 0x5a 1M 128k", "-c", "write -z 4M 1M", top])
    let indexing = scratch.indexing("a", .qcow2)
    let outcomes = try indexing.run(top)
    #expect(outcomes.map(\.image) == [top, base])
    #expect(outcomes.map(\.heldBytes) == [128 << 10, UInt64(Self.held.count) << 12])
    // What lies behind is not in the first one's index; what was written is, at its place.
    let own = try #require(indexing.folder.load(top))
    #expect(own.find([UInt8](repeating: 0x5A, count: Page.size)) == 256)
    #expect(own.find(TestImage.content(5)) == nil)
    #expect(try #require(indexing.folder.load(base)).find(TestImage.content(5)) == 5)
    // Before there is a QEMU: what the guest's arguments name, and what is behind that.
    var configuration = AgentConfiguration()
    configuration.stateDirectory = scratch.path + "/a"
    func images(_ arguments: [String]) -> [String] {
      let launch = QEMULaunch(
        name: "web-1", program: "/bin/true", arguments: arguments, isFromDefinition: true)
      return GuestImages.indexed(launch, vm: "web-1", configuration).map(\.index.path)
    }
    #expect(images(["-drive", "file=\(top),format=qcow2"]) == [top, base])
    #expect(images(["-drive", "file=\(base)", "-name", top]) == [base])
    #expect(images(["-drive", "file=\(scratch.path)/source.raw,format=raw"]).isEmpty)
  }

  @Test func anImageWhoseBackingFormatIsNotSaidIsRefused() async throws {
    let scratch = try ImageScratch()
    _ = try await make(scratch, "base.qcow2", [])
    let top = scratch.path + "/top.qcow2"
    try await Command.run(
      "qemu-img", ["create", "-f", "qcow2", "-u", "-b", "nbd:localhost:1", "-F", "raw", top, "1M"])
    #expect(throws: ImageIndexError.self) { _ = try scratch.indexing("a", .qcow2).run(top) }
    // A chain that bites its tail.
    let tail = scratch.path + "/tail.qcow2"
    for (name, backing) in [("tail.qcow2", "head.qcow2"), ("head.qcow2", "tail.qcow2")] {
      try await Command.run(
        "qemu-img",
        [
          "create", "-f", "qcow2", "-u", "-b", backing, "-F", "qcow2", "\(scratch.path)/\(name)",
          "1M",
        ])
    }
    #expect(throws: ImageIndexError.self) { _ = try scratch.indexing("a", .qcow2).run(tail) }
  }

  @Test func encryptedImagesAreRefused() async throws {
    let scratch = try ImageScratch()
    let image = scratch.path + "/disk.qcow2"
    try await Command.run(
      "qemu-img",
      [
        "create", "-f", "qcow2", "--object", "secret,id=s,data=word", "-o",
        "encrypt.format=aes,encrypt.key-secret=s", image, "1M",
      ])
    #expect(throws: ImageIndexError.self) { _ = try scratch.indexing("a", .qcow2).run(image) }
  }
}
