import Base
import Compaction
import Foundation
import HostIO
import QEMUStream
import TestSupport
import Testing
import Wire

@testable import Agent

/// Pages that are the same as blocks of a disk image: found at the source, read and proven at the destination.
@Suite(.serialized, .timeLimit(.minutes(5))) struct DiskReferenceTests {
  static let pageCount = 400
  static let imageBlocks: UInt64 = 5000
  static let block = RAMBlock(name: "mem0", length: UInt64(pageCount) << 12)

  /// Three pages of four are blocks of the image, in no order; the others nobody has.
  static func content(_ page: Int) -> [UInt8] {
    page % 4 == 3
      ? TestImage.content(UInt64(page) + 1_000_000)
      : TestImage.content(UInt64(page * 37) % imageBlocks)
  }

  static func stream() -> [UInt8] {
    var stream = SyntheticStream(blocks: [block])
    stream.part { writer, out in
      for page in 0..<pageCount {
        writer.pageHeader(block: 0, offset: UInt64(page) << 12, into: &out)
        out += SyntheticStream.page
      }
    }
    stream.ramEnd()
    stream.device("timer", [1, 2, 3])
    StreamItemWriter.end(description: SyntheticStream.description, into: &stream.bytes)
    return stream.bytes
  }

  /// Two hosts, each with the image and its index.
  struct Hosts {
    let scratch: ImageScratch
    let images: [String]
    let indexes: [StoredIndex]

    /// - Parameter copies: the second host has a file of its own; else both have the same.
    init(copies: Bool) throws {
      scratch = try ImageScratch()
      let all = Array(0..<DiskReferenceTests.imageBlocks)
      let first = try scratch.raw(
        "disk.raw", blocks: DiskReferenceTests.imageBlocks, held: all)
      var second = first
      if copies {
        second = scratch.path + "/copy.raw"
        try FileManager.default.copyItem(atPath: first, toPath: second)
      }
      images = [first, second]
      indexes = try zip(["a", "b"], images).map { [scratch] host, image in
        let indexing = scratch.indexing(host)
        _ = try indexing.run(image)
        return try #require(indexing.folder.load(image))
      }
    }

    /// What both come to know of each other.
    func agree() throws -> (DiskDirectory, HeldImages) {
      let claims = [ImageClaim(indexes[0])]
      let (held, matches) = try #require(HeldImages.match(claims, with: [indexes[1]]))
      return (try #require(DiskDirectory([indexes[0]], matches)), held)
    }
  }

  struct Moved {
    let counters: SendQueue.Counters
    let refetched: UInt64
  }

  private func move(
    _ hosts: Hosts, inPlace: Bool = true, laneCount: Int = 3, over wire: FlakyWire? = nil
  ) throws -> Moved {
    let (directory, held) = try hosts.agree()
    return try Self.move(directory, held, inPlace: inPlace, laneCount: laneCount, over: wire)
  }

  /// Moves the guest, and compares every page.
  static func move(
    _ directory: DiskDirectory, _ held: HeldImages, inPlace: Bool, laneCount: Int = 3,
    over wire: FlakyWire? = nil
  ) throws -> Moved {
    let length = Self.block.length
    let memories = try (0..<2).map { _ in try MemoryFile(byteCount: Int(length), sealed: true) }
    let files = try memories.map {
      try SharedFile(path: $0.path, offset: 0, length: length, writable: true)
    }
    for page in 0..<Self.pageCount {
      try Self.content(page).withUnsafeBytes { try files[0].write($0, at: UInt64(page) << 12) }
    }
    var plan = try #require(CompactionPlan(.lz4, threads: 2))
    (plan.memoryBytes, plan.disks) = (16 << 20, directory)
    plan.answerableBlocks = ["mem0"]
    if inPlace { plan.readableBlocks = ["mem0"] }
    var reconnect: (@Sendable () throws -> (StreamSocket, StreamSocket))?
    if let wire { reconnect = { try wire.connect() } }
    let rig = try RelayRig(
      laneCount: laneCount, sourceShared: ["mem0": files[0]],
      destinationShared: inPlace ? ["mem0": files[1]] : [:], compaction: plan, images: held,
      reconnect: reconnect)
    defer { rig.stop() }
    let collector = Collector(rig.destination.qemu)
    rig.feed(Self.stream(), closing: false).join()
    let image = try rig.image(collector)
    #expect(image.pages.count == (inPlace ? 0 : Self.pageCount))
    var page = [UInt8](repeating: 0, count: Page.size)
    var differing = 0
    for number in 0..<Self.pageCount {
      if inPlace {
        try page.withUnsafeMutableBytes { try files[1].read(at: UInt64(number) << 12, into: $0) }
      } else {
        page = image.pages[.init(block: 0, page: number)] ?? []
      }
      if page != Self.content(number) { differing += 1 }
    }
    #expect(differing == 0)
    return Moved(
      counters: rig.source.queue.snapshot.counters, refetched: rig.source.refetchedPages ?? 0)
  }

  @Test(arguments: [true, false], [true, false])
  func blocksAreReadAtTheDestination(copies: Bool, inPlace: Bool) throws {
    let moved = try move(Hosts(copies: copies), inPlace: inPlace)
    #expect(moved.counters.diskPages == 300 && moved.counters.pages == 400, "\(moved.counters)")
    #expect(moved.refetched == 0)
    #expect(moved.counters.wireBytes < 100 * 4096 + 300 * 64 + 16384)
  }

  /// The destination's copy was written to since it was indexed: what is no longer there is fetched.
  @Test(arguments: [true, false]) func whatTheImageNoLongerHoldsIsFetched(inPlace: Bool) throws {
    let hosts = try Hosts(copies: true)
    try TestImage.write(hosts.images[1], stride(from: 0, to: 5000, by: 2), version: 9)
    let moved = try move(hosts, inPlace: inPlace)
    #expect(moved.counters.diskPages == 300)
    #expect((100...200).contains(moved.refetched), "\(moved.refetched)")
  }

  /// Somebody writes to the image all the time; no page may be wrong.
  @Test(arguments: [1, 2, 3] as [UInt64], [true, false])
  func aWriterRunsMeanwhile(seed: UInt64, inPlace: Bool) throws {
    let hosts = try Hosts(copies: false)
    let isOver = Guarded(false)
    let image = hosts.images[0]
    let writer = WorkerThread("test-writer") {
      var random = SplitMix64(seed: seed)
      while !isOver.read({ $0 }) {
        let block = random.next() % Self.imageBlocks
        try? TestImage.write(image, [block], version: random.next() % 2 * 7)
      }
    }
    defer {
      isOver.update { $0 = true }
      writer.join()
    }
    let moved = try move(hosts, inPlace: inPlace)
    #expect(moved.counters.diskPages > 0)
  }

  /// The file became shorter: blocks that are not there any more cannot be read.
  @Test func anImageThatWasCutOff() throws {
    let hosts = try Hosts(copies: true)
    #expect(truncate(hosts.images[1], 2000 << 12) == 0)
    let moved = try move(hosts)
    #expect(moved.counters.diskPages == 300 && moved.refetched > 100)
  }

  @Test(arguments: [1, 3] as [UInt64], [true, false])
  func nothingIsLostWhenLanesBreak(seed: UInt64, inPlace: Bool) throws {
    let wire = FlakyWire(seed: seed, breaks: 12, bytesMax: 30_000, flipsBits: seed > 2)
    let moved = try move(Hosts(copies: false), inPlace: inPlace, over: wire)
    #expect(moved.counters.diskPages >= 300 && moved.refetched == 0)
    #expect(wire.made > 4, "no connection broke")
  }

  /// Only what both have in common is referred to.
  @Test func partsThatDifferAreLeftOut() throws {
    let hosts = try Hosts(copies: true)
    // The second region alone, from block 4096 on.
    try TestImage.write(hosts.images[1], [4500], version: 9)
    let indexing = hosts.scratch.indexing("b")
    _ = try indexing.run(hosts.images[1])
    let other = try #require(indexing.folder.load(hosts.images[1]))
    let (_, matches) = try #require(
      HeldImages.match([ImageClaim(hosts.indexes[0])], with: [other]))
    #expect(matches.first?.same == Data([0b01]))
    let directory = try #require(DiskDirectory([hosts.indexes[0]], matches))
    func find(_ block: UInt64) -> UInt64? {
      directory.find(TestImage.content(block).span.bytes)?.block
    }
    #expect(find(4095) == 4095 && find(4096) == nil && find(77_777) == nil)
    let none = try scratchIndex(hosts.scratch)
    #expect(HeldImages.match([ImageClaim(none)], with: [other]) == nil)
  }

  private func scratchIndex(_ scratch: ImageScratch) throws -> StoredIndex {
    let image = try scratch.raw("other.raw", blocks: 5000, held: [1, 2, 4999])
    let indexing = scratch.indexing("c")
    _ = try indexing.run(image)
    return try #require(indexing.folder.load(image))
  }

  /// Hosts that no longer have what was indexed stop referring to it.
  @Test func referencesThatFailComeToAnEnd() throws {
    let (directory, _) = try Hosts(copies: false).agree()
    func find(_ block: UInt64) -> Bool {
      directory.find(TestImage.content(block).span.bytes) != nil
    }
    for block in 0..<600 as Range<UInt64> { #expect(find(block)) }
    directory.noteRefetched(100)
    #expect(find(7))
    directory.noteRefetched(200)
    #expect(!find(7))
  }

  @Test func hostileAnswersAreLeftOut() throws {
    let hosts = try Hosts(copies: false)
    for claim in [-1, 1, .max] {
      #expect(
        DiskDirectory([hosts.indexes[0]], [ImageMatch(claim: claim, same: Data([1]))]) == nil)
    }
    let long = ImageMatch(claim: 0, same: Data(repeating: 255, count: 100_000))
    let directory = try #require(DiskDirectory([hosts.indexes[0]], [long]))
    #expect(directory.find(TestImage.content(4999).span.bytes)?.block == 4999)
    var claim = ImageClaim(hosts.indexes[0])
    claim.regions = .max
    #expect(HeldImages.match([claim], with: hosts.indexes) == nil)
    claim.regions = 2
    claim.parts = Data([1, 2, 3])
    #expect(HeldImages.match([claim], with: hosts.indexes) == nil)
  }

  @Test func imagesThatWereNotOfferedAreRefused() throws {
    let memory = try MemoryFile(byteCount: 1 << 20, sealed: true)
    let file = try SharedFile(path: memory.path, offset: 0, length: 1 << 20, writable: true)
    let rig = try DestinationRig(shared: ["mem0": file])
    defer { rig.stop() }
    try rig.relay.setLayout([RAMBlock(name: "mem0", length: 1 << 20)], sectionID: 2)
    let run = PageRun(block: 0, pageClass: .raw, firstPage: 0, count: 1)
    let header = EncodedHeader(
      batch: BatchHeader(place: SequencedHeader(sequence: 1, after: 0), runs: [run]),
      codec: .none, kinds: [.disk], packedByteCount: 0)
    var head: [UInt8] = []
    header.encode(into: &head)
    DiskNote(image: 0, block: 0, identity: [UInt8](repeating: 1, count: 32)).encode(into: &head)
    try FrameSocket(rig.lanes[0]).send(.encodedPages, head)
    let failure = try #require(rig.events.failure())
    #expect("\(failure)".contains("not offered"), "\(failure)")
  }
}
