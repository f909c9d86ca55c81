import Base
import Compaction
import Testing
import Wire

@Suite struct GangDirectoryTests {
  static func run(_ block: UInt16, _ first: UInt64, _ count: UInt32) -> [PageRun] {
    [PageRun(block: block, pageClass: .raw, firstPage: first, count: count)]
  }

  static func join(
    _ directory: inout GangDirectory, _ member: UInt16, _ pages: [Int], isTaken: Bool = true
  ) {
    let joined = directory.add(member, blockPages: pages)
    #expect(joined == isTaken)
  }

  /// Guests 0 and 1 with two blocks each; guest 0 has sent pages 0 to 9 of its second block in frames 1 to 10.
  static func directory() -> GangDirectory {
    var directory = GangDirectory(byteLimit: 1 << 20)
    join(&directory, 0, [100, 50])
    join(&directory, 1, [100, 50])
    for page in 0..<10 as Range<UInt64> {
      directory.sent(0, block: 1, page: page, hash: 1000 + page, sequence: page + 1)
    }
    return directory
  }

  @Test func onlyWhatIsAppliedIsFoundAndOnlyByOthers() {
    var directory = Self.directory()
    #expect(directory.find(1003, for: 1) == nil)
    directory.applied(0, through: 4)
    let place = directory.find(1003, for: 1)
    #expect(place?.member == 0 && place?.block == 1 && place?.page == 3)
    #expect(directory.find(1004, for: 1) == nil)
    #expect(directory.find(1003, for: 0) == nil)
    // Never backwards.
    directory.applied(0, through: 2)
    #expect(directory.find(1003, for: 1) != nil)
    #expect(directory.find(77, for: 1) == nil)
  }

  @Test func whatIsSentAgainIsForgotten() {
    var directory = Self.directory()
    directory.applied(0, through: 10)
    directory.forget(0, Self.run(1, 2, 3))
    for page in 0..<10 as Range<UInt64> {
      #expect((directory.find(1000 + page, for: 1) == nil) == (2..<5).contains(page))
    }
    // With other content the old one is gone; the new one counts from its own frame on.
    directory.sent(0, block: 1, page: 2, hash: 5555, sequence: 11)
    #expect(directory.find(5555, for: 1) == nil)
    directory.applied(0, through: 11)
    #expect(directory.find(5555, for: 1)?.page == 2 && directory.find(1002, for: 1) == nil)
  }

  @Test func theFirstPlaceStaysUntilItFails() {
    var directory = Self.directory()
    directory.applied(0, through: 10)
    directory.sent(1, block: 0, page: 7, hash: 1005, sequence: 3)
    directory.applied(1, through: 3)
    Self.join(&directory, 2, [10])
    #expect(directory.find(1005, for: 2)?.member == 0)
    // Guest 1 got its page from guest 0, and that failed.
    directory.failed(1, block: 0, page: 7)
    #expect(directory.find(1005, for: 2) == nil)
    directory.sent(2, block: 0, page: 0, hash: 1005, sequence: 1)
    directory.applied(2, through: 1)
    #expect(directory.find(1005, for: 1)?.member == 2)
  }

  @Test func guestsThatDidNotArriveAreNotReferredTo() {
    var directory = Self.directory()
    directory.applied(0, through: 10)
    directory.remove(0)
    #expect(directory.find(1005, for: 1) == nil)
    // A number may not be taken twice while its guest is there.
    Self.join(&directory, 1, [1], isTaken: false)
    // What is gone makes way.
    directory.sent(1, block: 0, page: 1, hash: 1005, sequence: 1)
    directory.applied(1, through: 1)
    Self.join(&directory, 2, [1])
    #expect(directory.find(1005, for: 2)?.member == 1)
  }

  /// Pages that no guest has, and guests that nobody knows, change nothing.
  @Test func whatIsNotThereIsLeftAlone() {
    var directory = Self.directory()
    directory.applied(9, through: 10)
    directory.sent(0, block: 2, page: 0, hash: 1, sequence: 1)
    directory.sent(0, block: 1, page: 50, hash: 1, sequence: 1)
    directory.sent(9, block: 0, page: 0, hash: 1, sequence: 1)
    directory.forget(0, Self.run(1, 40, 20))
    directory.forget(0, Self.run(7, 0, 1))
    directory.failed(0, block: 1, page: 49)
    directory.failed(9, block: 0, page: 0)
    directory.applied(0, through: 10)
    #expect(directory.find(1, for: 1) == nil && directory.find(1009, for: 1) != nil)
    // A hash of 0 is one like any other.
    directory.sent(0, block: 0, page: 0, hash: 0, sequence: 10)
    #expect(directory.find(0, for: 1)?.page == 0)
  }

  /// Within its memory it knows what it was told; beyond, it forgets and stays within.
  @Test(arguments: [1 << 20, 4 << 20] as [UInt64]) func memoryIsBounded(limit: UInt64) {
    var directory = GangDirectory(byteLimit: limit)
    let pages = Int(limit) / 32
    Self.join(&directory, 0, [pages])
    Self.join(&directory, 1, [pages])
    Self.join(&directory, 2, [1], isTaken: false)
    var random = SplitMix64(seed: limit)
    let hashes = (0..<pages).map { _ in random.next() }
    for (page, hash) in hashes.enumerated() {
      directory.sent(0, block: 0, page: UInt64(page), hash: hash, sequence: UInt64(page) + 1)
      if page == pages / 8 {
        directory.applied(0, through: UInt64(pages))
        let known = hashes[...page].count { directory.find($0, for: 1) != nil }
        #expect(known > page * 95 / 100, "\(known) of \(page)")
      }
    }
    #expect(directory.byteCount <= limit)
    var found = 0
    for (page, hash) in hashes.enumerated() {
      guard let place = directory.find(hash, for: 1) else { continue }
      #expect(place.page == UInt64(page))
      found += 1
    }
    #expect(found > pages / 4, "\(found) of \(pages)")
  }
}
