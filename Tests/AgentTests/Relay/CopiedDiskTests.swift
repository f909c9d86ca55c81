import Base
import Compaction
import Foundation
import HostIO
import NBD
import Testing
import Wire

@testable import Agent

/// Pages that are the same as blocks of a disk that moves along: noted at the source as they go by, with no index at
/// either end, and read and proven at the destination.
@Suite(.serialized, .timeLimit(.minutes(5))) struct CopiedDiskTests {
  typealias Guest = DiskReferenceTests

  /// A source that notes, and a destination's copies.
  struct Hosts {
    let scratch: ImageScratch
    let copied: CopiedDisks
    let paths: [String]

    init(disks: Int = 1) throws {
      scratch = try ImageScratch()
      paths = try (0..<disks).map { [scratch] in
        try scratch.raw("copy-\($0).raw", blocks: Guest.imageBlocks, held: [])
      }
      let moving = paths.enumerated().map { number, path in
        MovingDisk(
          number: number, target: "n\(number)",
          claim: DiskClaim(
            device: "d\(number)", name: "n\(number)", sourcePath: "/d.raw",
            byteCount: Guest.imageBlocks << 12), destinationPath: path)
      }
      copied = try #require(CopiedDisks(moving, memoryLimit: 256 << 20))
    }

    func agree() throws -> (DiskDirectory, HeldImages) {
      let (held, matches) = try #require(HeldImages.match([], with: [], copies: paths))
      #expect(matches.isEmpty)
      return (try #require(DiskDirectory([], matches, copied)), held)
    }

    /// A client copies these blocks of the disk called so: its bytes go by in pieces, and may arrive.
    func copy(
      _ export: String, _ blocks: some Sequence<UInt64>, version: UInt64 = 0,
      _ mode: ReplyMode = .extended
    ) {
      var bytes: [UInt8] = [0, 0, 0, 3]
      bytes += Array("IHAVEOPT".utf8)
      bytes.appendBE(UInt32(7))
      bytes.appendBE(UInt32(6 + export.utf8.count))
      bytes.appendBE(UInt32(export.utf8.count))
      bytes += Array(export.utf8) + [0, 0]
      for block in blocks {
        NBDRequest(.write, offset: block << 12, length: 4096).encode(mode, into: &bytes)
        bytes += TestImage.content(block, version: version)
      }
      var watch = copied.watch()
      for start in stride(from: 0, to: bytes.count, by: 70_001) {
        watch.passed(bytes[start..<min(start + 70_001, bytes.count)].span.bytes)
      }
    }
  }

  @Test(arguments: [true, false], [ReplyMode.simple, .extended])
  func blocksAreReadFromTheCopy(inPlace: Bool, mode: ReplyMode) throws {
    let hosts = try Hosts()
    let all = 0..<Guest.imageBlocks
    hosts.copy("disk-0", all, mode)
    try TestImage.write(hosts.paths[0], all, version: 0)
    let (directory, held) = try hosts.agree()
    let moved = try Guest.move(directory, held, inPlace: inPlace)
    #expect(moved.counters.diskPages > 275 && moved.counters.pages == 400, "\(moved.counters)")
    #expect(moved.refetched == 0)
  }

  /// The second half of the blocks is still on its way: their pages are fetched.
  @Test(arguments: [true, false]) func whatHasNotArrivedIsFetched(inPlace: Bool) throws {
    let hosts = try Hosts()
    hosts.copy("disk-0", 0..<Guest.imageBlocks)
    try TestImage.write(hosts.paths[0], 0..<Guest.imageBlocks / 2, version: 0)
    let (directory, held) = try hosts.agree()
    let moved = try Guest.move(directory, held, inPlace: inPlace)
    #expect(moved.counters.diskPages > 275)
    #expect((100...200).contains(moved.refetched), "\(moved.refetched)")
  }

  /// Blocks that the guest has written again stand for what they hold now, and for nothing else.
  @Test func whatIsWrittenAgainIsNotReferredTo() throws {
    let hosts = try Hosts()
    let all = 0..<Guest.imageBlocks
    hosts.copy("disk-0", all)
    try TestImage.write(hosts.paths[0], all, version: 0)
    let again = stride(from: 0, to: Guest.imageBlocks, by: 2)
    hosts.copy("disk-0", again, version: 9)
    try TestImage.write(hosts.paths[0], again, version: 9)
    let (directory, held) = try hosts.agree()
    let moved = try Guest.move(directory, held, inPlace: true)
    // 100 of the pages are odd blocks.
    #expect((75...110).contains(moved.counters.diskPages), "\(moved.counters)")
    #expect(moved.refetched <= 10)
    let found = again.count { block in
      directory.find(TestImage.content(block, version: 9).span.bytes)?.block == block
    }
    // One content may push out another (`CopiedBlocks`): which ones is drawn by lot.
    #expect(found > 2300, "\(found) of 2500")
  }

  @Test func eachDiskHasItsNumber() throws {
    let hosts = try Hosts(disks: 2)
    hosts.copy("disk-1", [7])
    hosts.copy("disk-2", [8])
    hosts.copy("other", [9])
    let (directory, held) = try hosts.agree()
    func find(_ block: UInt64) -> DiskNote? {
      directory.find(TestImage.content(block).span.bytes)
    }
    let note = try #require(find(7))
    #expect(note.image == 17 && note.block == 7)
    #expect(find(8) == nil && find(9) == nil)
    try TestImage.write(hosts.paths[1], [7], version: 0)
    let page = PageBuffer(byteCount: Page.size)
    func missing(_ image: UInt16, _ block: UInt64) throws -> [Int] {
      let note = DiskNote(image: image, block: block, identity: note.identity)
      return try held.resolve([(place: 0, reference: .disk(note))], in: page)
    }
    #expect(try missing(17, 7) == [] && missing(16, 7) == [0])
    #expect(try missing(17, 8) == [0] && missing(17, 5000) == [0] && missing(17, 1 << 33) == [0])
    for image in [0, 15, 18, .max] as [UInt16] {
      #expect(throws: RelayFailure.self) { try missing(image, 7) }
    }
  }

  /// What the agent may use of memory bounds it; a disk that is too large is not noted.
  @Test func largeDisksAreLeftOut() {
    func copied(_ byteCount: UInt64) -> CopiedDisks? {
      CopiedDisks(
        [
          MovingDisk(
            number: 0, target: "n",
            claim: DiskClaim(device: "d", name: "n", sourcePath: "/d", byteCount: byteCount),
            destinationPath: "/d")
        ], memoryLimit: 16 << 20)
    }
    #expect(copied(1 << 30) != nil && copied(1 << 60) == nil && copied(16 << 30) == nil)
    #expect(CopiedDisks([], memoryLimit: 1 << 30) == nil)
  }
}
