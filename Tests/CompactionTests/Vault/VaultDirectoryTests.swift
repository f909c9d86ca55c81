import Base
import Testing

@testable import Compaction

@Suite struct VaultDirectoryTests {
  static func add(
    _ hashes: some Collection<UInt64>, _ snapshot: Int, to directory: inout VaultDirectory,
    isTaken: Bool = true
  ) {
    let taken = directory.add(hashes, of: snapshot)
    #expect(taken == isTaken)
  }

  /// Every page is found by its hash, in its own snapshot and no other, whatever parts the hashes come in.
  @Test(arguments: 1...20 as ClosedRange<UInt64>) func whatIsThereIsFound(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    let pages = (0..<1 + random.next() % 4).map { _ in random.next() % 3000 }
    // Few enough that some pages of a snapshot are the same.
    let contents = (0..<4000).map { _ in random.next() }
    let hashes = pages.map { count in
      (0..<count).map { _ in contents[Int(random.next() % 4000)] }
    }
    var directory = try #require(VaultDirectory(pages: pages))
    var next = pages.map { _ in 0 }
    while let snapshot = (0..<pages.count).first(where: { next[$0] < hashes[$0].count }) {
      let count = min(1 + Int(random.next() % 700), hashes[snapshot].count - next[snapshot])
      let part = hashes[snapshot][next[snapshot]..<next[snapshot] + count]
      Self.add(part, snapshot, to: &directory)
      next[snapshot] += count
      #expect(directory.knownPages(of: snapshot) == UInt64(next[snapshot]))
    }
    for (snapshot, known) in hashes.enumerated() {
      var first: [UInt64: UInt64] = [:]
      for (page, hash) in known.enumerated() where first[hash] == nil {
        first[hash] = UInt64(page)
      }
      let wrong = contents.count { directory.find($0, in: snapshot) != first[$0] }
      #expect(wrong == 0, "snapshot \(snapshot)")
      // More pages than it has.
      Self.add([7], snapshot, to: &directory, isTaken: false)
    }
  }

  /// What is taken only in part is not taken.
  @Test func moreThanThereIsIsRefused() throws {
    var directory = try #require(VaultDirectory(pages: [3, 2]))
    Self.add([11, 12], 0, to: &directory)
    Self.add([13, 14], 0, to: &directory, isTaken: false)
    #expect(directory.knownPages(of: 0) == 2 && directory.find(13, in: 0) == nil)
    Self.add([13], 0, to: &directory)
    #expect(directory.find(13, in: 0) == 2)
    #expect(directory.find(13, in: 1) == nil)
    // 0 stands for no hash.
    Self.add([0, 15], 1, to: &directory)
    #expect(directory.find(0, in: 1) == nil && directory.find(15, in: 1) == 1)
    #expect(VaultDirectory(pages: [VaultDirectory.pagesMax, 1]) == nil)
    #expect(VaultDirectory(pages: [.max, .max]) == nil)
    #expect(VaultDirectory(pages: []) != nil)
  }

  /// Hashes that were made up to lie in one place: only so many are looked at, and nothing wrong is found.
  @Test func hashesOfOnePlaceCostNoMoreThanOthers() throws {
    var directory = try #require(VaultDirectory(pages: [10_000]))
    let hashes = (1...10_000 as ClosedRange<UInt64>).map { $0 << 32 }
    Self.add(hashes, 0, to: &directory)
    let found = hashes.map { directory.find($0, in: 0) }
    #expect(found.count { $0 != nil } == VaultDirectory.probesMax)
    #expect(zip(0..., found).allSatisfy { $1 == nil || $1 == UInt64($0) })
  }

  @Test func itsMemoryIsWhatItSays() {
    #expect(VaultDirectory.byteCount(pages: 0) == 256)
    for pages in [1000, 1 << 20, 3 << 22] as [UInt64] {
      let bytes = VaultDirectory.byteCount(pages: pages)
      #expect((16 * pages...24 * pages).contains(bytes), "\(bytes) for \(pages)")
    }
    #expect(VaultDirectory.byteCount(pages: .max) < 1 << 40)
  }
}
