import Base
import Compaction
import Foundation
import HostIO
import Testing

@testable import Agent

/// Indexes of real files: built, refreshed, gone on with, compared.
@Suite(.timeLimit(.minutes(5))) struct ImageIndexingTests {
  static let blocks: UInt64 = 3 * 4096 + 700
  /// Two regions that hold something, one that does not.
  static let held: [UInt64] =
    Array(stride(from: 0, to: 2000, by: 3)) + Array(9000..<9100) + [blocks - 1]

  @Test(arguments: [1, 3]) func everyBlockThatHoldsSomethingIsFound(threads: Int) throws {
    let scratch = try ImageScratch()
    let image = try scratch.raw("disk.raw", blocks: Self.blocks, held: Self.held)
    let indexing = scratch.indexing(threads: threads)
    let outcome = try #require(try indexing.run(image).first)
    #expect(outcome.action == .built && outcome.changedRegions == nil)
    #expect(outcome.heldBytes == UInt64(Self.held.count) << 12 && outcome.regions == 4)
    #expect(outcome.readBytes < 40 << 20, "holes were read")
    let stored = try #require(indexing.folder.load(image))
    for block in Self.held {
      #expect(stored.find(TestImage.content(block)) == UInt32(block))
    }
    #expect(stored.find(TestImage.content(1)) == nil)
    #expect(try indexing.list().map { try $0.get().image } == [image])
  }

  /// The same whatever the order in which threads read.
  @Test func oneImageHasOneDigest() throws {
    let scratch = try ImageScratch()
    let image = try scratch.raw("disk.raw", blocks: Self.blocks, held: Self.held)
    let copy = try scratch.raw("copy.raw", blocks: Self.blocks, held: Self.held)
    let roots = try [(image, "a", 1), (image, "b", 4), (copy, "a", 2)].map { path, host, threads in
      try #require(try scratch.indexing(host, threads: threads).run(path).first).root
    }
    #expect(Set(roots).count == 1)
  }

  @Test func whatNobodyWroteToIsNotReadAgain() async throws {
    let scratch = try ImageScratch()
    let image = try scratch.raw("disk.raw", blocks: Self.blocks, held: Self.held)
    // Times this young could be those of a later write, too.
    try await Task.sleep(for: .milliseconds(3200))
    let indexing = scratch.indexing()
    #expect(try indexing.run(image).first?.action == .built)
    let again = try #require(try indexing.run(image).first)
    #expect(again.action == .unchanged && again.readBytes == 0)
    #expect(try indexing.list().first?.get().isChanged == false)
    try TestImage.write(image, [9005], version: 1)
    #expect(try indexing.list().first?.get().isChanged == true)
    let changed = try #require(try indexing.run(image).first)
    #expect(changed.action == .built && changed.changedRegions == 1)
    let stored = try #require(indexing.folder.load(image))
    #expect(stored.find(TestImage.content(9005, version: 1)) == 9005)
    #expect(stored.find(TestImage.content(9005)) == nil)
  }

  @Test func verifyComparesAndWritesNothing() throws {
    let scratch = try ImageScratch()
    let image = try scratch.raw("disk.raw", blocks: Self.blocks, held: Self.held)
    let indexing = scratch.indexing()
    _ = try indexing.run(image)
    var verifying = indexing
    verifying.verifies = true
    #expect(try verifying.run(image).first?.changedRegions == 0)
    try TestImage.write(image, [0, 9000], version: 1)
    let outcome = try #require(try verifying.run(image).first)
    #expect(outcome.action == .verified && outcome.changedRegions == 2)
    #expect(try #require(indexing.folder.load(image)).find(TestImage.content(0)) == 0)
  }

  /// A builder that is killed: finished regions are kept, a torn one is not.
  @Test(arguments: [0, 1, 30]) func aBuildGoesOnWhereItWas(tornBytes: Int) throws {
    struct Killed: Error {}
    let scratch = try ImageScratch()
    let image = try scratch.raw("disk.raw", blocks: Self.blocks, held: Self.held)
    let indexing = scratch.indexing(threads: 1)
    try indexing.folder.make()
    let layer = try ImageLayer.open(image, format: .raw)
    let path = indexing.folder.journalPath(layer.path)
    do {
      let journal = try IndexJournal(path: path, layer, keepsEarlier: true)
      let reader = try RegionReader(layer, known: [])
      #expect(throws: Killed.self) {
        try reader.run(threads: 1) { record in
          if record.region == 2 { throw Killed() }
          try journal.append(record)
        }
      }
    }
    if tornBytes > 0 {
      let handle = try #require(FileHandle(forUpdatingAtPath: path))
      let end = try handle.seekToEnd()
      // In the last record, or behind it.
      try handle.truncate(atOffset: tornBytes == 1 ? end - 1 : end)
      if tornBytes > 1 { try handle.write(contentsOf: Data(repeating: 7, count: tornBytes)) }
      try handle.close()
    }
    let outcome = try #require(try indexing.run(image).first)
    #expect(outcome.resumedRegions == (tornBytes == 1 ? 1 : 2))
    let whole = try #require(try scratch.indexing("b").run(image).first)
    #expect(outcome.root == whole.root && outcome.readBytes < whole.readBytes)
    #expect(!FileManager.default.fileExists(atPath: path))
  }

  @Test func whatAnEarlierBuilderReadOfAnotherStateIsForgotten() throws {
    let scratch = try ImageScratch()
    let image = try scratch.raw("disk.raw", blocks: Self.blocks, held: Self.held)
    let indexing = scratch.indexing()
    try indexing.folder.make()
    do {
      let layer = try ImageLayer.open(image, format: .raw)
      let journal = try IndexJournal(
        path: indexing.folder.journalPath(layer.path), layer, keepsEarlier: true)
      let reader = try RegionReader(layer, known: [])
      try reader.run(threads: 1) { try journal.append($0) }
    }
    try TestImage.write(image, [3], version: 1)
    let outcome = try #require(try indexing.run(image).first)
    #expect(outcome.resumedRegions == 0)
    let stored = try #require(indexing.folder.load(image))
    #expect(stored.find(TestImage.content(3, version: 1)) == 3)
  }

  @Test func damagedIndexesAreNotUsed() throws {
    let scratch = try ImageScratch()
    let image = try scratch.raw("disk.raw", blocks: 300, held: [1, 2, 3])
    let indexing = scratch.indexing()
    _ = try indexing.run(image)
    let path = indexing.folder.indexPath(image)
    let handle = try #require(FileHandle(forUpdatingAtPath: path))
    try handle.seek(toOffset: 200)
    let byte = try #require(try handle.read(upToCount: 1)?.first)
    try handle.seek(toOffset: 200)
    try handle.write(contentsOf: Data([byte ^ 1]))
    try handle.close()
    #expect(indexing.folder.load(image) == nil)
    #expect(throws: (any Error).self) { _ = try indexing.list().first?.get() }
    // Another image's under this one's name.
    let other = try scratch.raw("other.raw", blocks: 300, held: [4])
    _ = try indexing.run(other)
    try FileManager.default.removeItem(atPath: path)
    try FileManager.default.copyItem(atPath: indexing.folder.indexPath(other), toPath: path)
    #expect(indexing.folder.load(image) == nil)
    #expect(try indexing.run(image).first?.action == .built)
  }

  @Test func whatIsNoImageIsRefused() throws {
    let scratch = try ImageScratch()
    let indexing = scratch.indexing()
    #expect(throws: ImageIndexError.self) { _ = try indexing.run(scratch.path + "/none") }
    #expect(throws: SystemError.self) { _ = try indexing.run(scratch.path) }
    let qcow2 = scratch.path + "/looks"
    try SmallFile.write([0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 9], to: qcow2)
    #expect(throws: ImageIndexError.self) { _ = try indexing.run(qcow2) }
    #expect(throws: ImageIndexError.self) { _ = try scratch.indexing("a", .qcow2).run(qcow2) }
    #expect(try scratch.indexing("a", .raw).run(qcow2).first?.heldBytes == 0)
  }

  @Test func anEmptyImageHasAnIndex() throws {
    let scratch = try ImageScratch()
    let image = try scratch.raw("empty.raw", blocks: 0, held: [])
    let outcome = try #require(try scratch.indexing().run(image).first)
    #expect(outcome.regions == 0 && outcome.heldBytes == 0)
  }

  /// Somebody writes while it is read: the index is of no single moment, and says so.
  @Test func anImageThatIsWrittenMeanwhile() throws {
    let scratch = try ImageScratch()
    let image = try scratch.raw("disk.raw", blocks: Self.blocks, held: Self.held)
    let isOver = Guarded(false)
    let writer = WorkerThread("test-writer") {
      var version: UInt64 = 1
      while isOver.wait(timeoutMs: 1, until: { $0 ? true : nil }) == nil {
        try? TestImage.write(image, [0, 3, 9000, Self.blocks - 1], version: version)
        version += 1
      }
    }
    defer {
      isOver.update { $0 = true }
      writer.join()
    }
    let indexing = scratch.indexing()
    // The time limit of the suite would show that it never is.
    while try indexing.run(image).first?.wasChangedMeanwhile != true {}
    let stored = try #require(indexing.folder.load(image))
    #expect(stored.index.wasChanged && stored.find(TestImage.content(6)) == 6)
    #expect(try indexing.list().first?.get().isChanged == true)
  }
}
