import Base
import Compaction
import QEMUStream
import Synchronization
import Wire

/// What one migration's encoders ask their gang, and tell it; for several threads.
final class GangReferences: Sendable {
  /// A batch's pages that are not zero, in their order.
  struct Look {
    /// By which their contents are looked for.
    var hashes: [UInt64]
    /// Where the destination should have the same.
    var places: [GangDirectory.Place?]
  }

  private let member: GangMember
  /// Names of the guest's blocks whose memory the destination can read for others.
  private let readable: Set<String>
  private let blocks: @Sendable () -> [RAMBlock]
  /// By block, whether others may refer to it, see `readableBlocks`; nil before the first batch.
  private let isReadable = Mutex<[Bool]??>(nil)
  private let found = Atomic<UInt64>(0)
  private let refetched = Atomic<UInt64>(0)

  /// - Parameter blocks: the stream's RAM blocks, known before the first batch.
  init(
    _ member: GangMember, readable: Set<String>, blocks: @escaping @Sendable () -> [RAMBlock]
  ) {
    (self.member, self.readable, self.blocks) = (member, readable, blocks)
  }

  /// Looks for `count` pages of 4096 bytes.
  func look(at contents: RawSpan, count: Int) -> Look {
    var hashes: [UInt64] = []
    hashes.reserveCapacity(count)
    for index in 0..<count {
      let page = contents.extracting(index * Page.size..<(index + 1) * Page.size)
      hashes.append(SentMemory.hash(page, seed: member.gang.seed))
    }
    guard isPaying else {
      return Look(hashes: hashes, places: [GangDirectory.Place?](repeating: nil, count: count))
    }
    let (number, wanted) = (member.number, hashes)
    let places = member.gang.update { directory in
      wanted.map { directory.find($0, for: number) }
    }
    return Look(hashes: hashes, places: places)
  }

  /// The note that goes for a page that was found at `place`.
  func note(_ place: GangDirectory.Place, _ content: RawSpan) -> GangNote {
    found.add(1, ordering: .relaxed)
    return GangNote(
      member: place.member, block: place.block, page: place.page,
      identity: PageIdentity.bytes(of: content))
  }

  /// The pages go in frame `sequence`.
  func sent(_ runs: [PageRun], _ look: Look, sequence: UInt64) {
    guard let isReadable = readableBlocks() else { return }
    let (number, places) = (member.number, runs.rawPlaces)
    member.gang.update { directory in
      for (hash, place) in zip(look.hashes, places) where Int(place.block) < isReadable.count {
        directory.sent(
          number, block: place.block, page: place.page, hash: hash, sequence: sequence,
          isReadable: isReadable[Int(place.block)])
      }
    }
  }

  /// Pages are about to be sent, with whatever content.
  func forget(_ runs: [PageRun]) {
    guard readableBlocks() != nil else { return }
    let number = member.number
    member.gang.update { $0.forget(number, runs) }
  }

  /// The destination applied everything up to `sequence`.
  func applied(through sequence: UInt64) {
    let number = member.number
    member.gang.update { $0.applied(number, through: sequence) }
  }

  /// The destination could not make these pages of what it has.
  func failed(_ places: [PagePlace]) {
    refetched.add(UInt64(places.count), ordering: .relaxed)
    let number = member.number
    member.gang.update { directory in
      for place in places { directory.failed(number, block: place.block, page: place.page) }
    }
  }

  /// As for blocks of disks: too many references that fail, and there are no more of them.
  private var isPaying: Bool {
    let failed = refetched.load(ordering: .relaxed)
    guard failed >= DiskDirectory.refetchedMin else { return true }
    return failed * DiskDirectory.refetchedShare < found.load(ordering: .relaxed)
  }

  /// Nil: the gang has no memory for one more guest, which then only takes from the others.
  private func readableBlocks() -> [Bool]? {
    isReadable.withLock { known in
      if let known { return known }
      let blocks = blocks()
      let number = member.number
      let isIn = member.gang.update { $0.add(number, blockPages: blocks.map(\.pageCount)) }
      let answer = isIn ? blocks.map { readable.contains($0.name) } : nil
      known = .some(answer)
      return answer
    }
  }
}
