import Base
public import Wire

/// What the guests of a gang brought to one destination, by a fast hash of the content: so that a page of one guest can
/// be sent as a reference to a page of another.
///
/// A filter: what is found here is proven at the destination by the page's identity, so what has changed there since
/// costs bandwidth alone. Each content has one place: the first that is still good. A page is found once its frame
/// was applied at the destination, until it is sent again.
///
/// Takes 8 bytes for each page of its guests, and 24 for each content that it knows.
public struct GangDirectory: Sendable {
  /// A page of one of the guests.
  public struct Place: Sendable, Hashable {
    /// The guest, by its number in the gang.
    public let member: UInt16
    /// Index into the RAM block list of its stream, and page within the block.
    public let block: UInt16
    public let page: UInt64
  }

  /// A guest's pages are numbered through, block after block.
  private struct Member: Sendable {
    let bases: [Int]
    let counts: [Int]
    /// By page: the hash of what was sent last; 0: not known.
    var hashes: [UInt64]
    /// Its frames up to here are applied at the destination.
    var applied: UInt64 = 0

    /// Nil where there is no such page.
    func number(_ block: UInt16, _ page: UInt64) -> Int? {
      guard Int(block) < counts.count, page < UInt64(counts[Int(block)]) else { return nil }
      return bases[Int(block)] + Int(page)
    }
  }

  private struct Entry: Sendable {
    /// 0: nothing.
    var hash: UInt64 = 0
    var sequence: UInt64 = 0
    /// The member in the upper 16 bits, the page's number among all of that guest's below.
    var owner: UInt64 = 0

    var member: UInt16 { UInt16(truncatingIfNeeded: owner >> 48) }
    var number: Int { Int(owner & (1 << 48 - 1)) }
  }

  /// Entries in which a content may stand.
  private static let ways = 8
  static let entriesMin = 4096

  private let byteLimit: UInt64
  private var entries = [Entry](repeating: Entry(), count: entriesMin)
  private var used = 0
  private var members: [UInt16: Member] = [:]

  /// - Parameter byteLimit: memory for all of it.
  public init(byteLimit: UInt64) { self.byteLimit = byteLimit }

  /// Bytes that it takes now.
  public var byteCount: UInt64 {
    UInt64(entries.count * MemoryLayout<Entry>.stride)
      + members.values.reduce(0) { $0 + UInt64($1.hashes.count) * 8 }
  }

  /// A guest with so many pages in each block of its stream takes part. False where its pages would take more than half
  /// of the memory together with those of the others, or the number is taken.
  public mutating func add(_ member: UInt16, blockPages: [Int]) -> Bool {
    let others = members.values.reduce(UInt64(0)) { $0 + UInt64($1.hashes.count) }
    var bases: [Int] = []
    var total = 0
    for count in blockPages {
      bases.append(total)
      total += count
    }
    guard members[member] == nil, (others + UInt64(total)) * 8 <= byteLimit / 2 else {
      return false
    }
    members[member] = Member(
      bases: bases, counts: blockPages, hashes: [UInt64](repeating: 0, count: total))
    return true
  }

  /// The guest is not at the destination, after all.
  public mutating func remove(_ member: UInt16) { members[member] = nil }

  /// The destination applied a guest's frames up to `sequence`.
  public mutating func applied(_ member: UInt16, through sequence: UInt64) {
    guard let known = members[member]?.applied, sequence > known else { return }
    members[member]?.applied = sequence
  }

  /// Pages of a guest are sent again, with whatever content.
  public mutating func forget(_ member: UInt16, _ runs: [PageRun]) {
    guard var found = members[member] else { return }
    members[member] = nil  // so that the array is changed in place
    for run in runs where run.count > 0 {
      guard let first = found.number(run.block, run.firstPage),
        let last = found.number(run.block, run.firstPage + UInt64(run.count) - 1)
      else { continue }
      for number in first...last { found.hashes[number] = 0 }
    }
    members[member] = found
  }

  /// A page of a guest goes with content of this hash, in frame `sequence` of its stream.
  ///
  /// - Parameter isReadable: others may refer to it.
  public mutating func sent(
    _ member: UInt16, block: UInt16, page: UInt64, hash: UInt64, sequence: UInt64,
    isReadable: Bool = true
  ) {
    guard let number = members[member]?.number(block, page) else { return }
    let hash = max(hash, 1)
    members[member]?.hashes[number] = hash
    guard isReadable else { return }
    insert(
      Entry(hash: hash, sequence: sequence, owner: UInt64(member) << 48 | UInt64(number)))
  }

  /// Where another guest's page has content of this hash at the destination, as far as is known.
  public func find(_ hash: UInt64, for member: UInt16) -> Place? {
    let hash = max(hash, 1)
    for index in bucket(hash) where entries[index].hash == hash {
      let entry = entries[index]
      guard entry.member != member, let owner = members[entry.member],
        owner.hashes[entry.number] == hash, entry.sequence <= owner.applied,
        let block = owner.bases.lastIndex(where: { $0 <= entry.number }),
        entry.number - owner.bases[block] < owner.counts[block]
      else { return nil }
      return Place(
        member: entry.member, block: UInt16(truncatingIfNeeded: block),  // a stream's, so it fits
        page: UInt64(entry.number - owner.bases[block]))
    }
    return nil
  }

  /// The destination could not make a guest's page of what was found for it: that place holds something else by now.
  public mutating func failed(_ member: UInt16, block: UInt16, page: UInt64) {
    guard let owner = members[member], let number = owner.number(block, page) else { return }
    let hash = owner.hashes[number]
    guard hash != 0 else { return }
    for index in bucket(hash) where entries[index].hash == hash {
      entries[index] = Entry()
      used -= 1
    }
  }

  private func bucket(_ hash: UInt64) -> Range<Int> {
    let first = Int(hash & UInt64(entries.count - 1)) & ~(Self.ways - 1)
    return first..<first + Self.ways
  }

  private func isLive(_ entry: Entry) -> Bool {
    entry.hash != 0 && members[entry.member]?.hashes[entry.number] == entry.hash
  }

  private mutating func insert(_ entry: Entry) {
    growIfFull()
    let bucket = bucket(entry.hash)
    var target = bucket.lowerBound + Int(entry.hash >> 61)  // of what is good, one by lot
    var isFree = false
    for index in bucket {
      let old = entries[index]
      if old.hash == entry.hash {
        guard !isLive(old) else { return }
        return entries[index] = entry
      }
      if !isFree, !isLive(old) { (target, isFree) = (index, true) }
    }
    if entries[target].hash == 0 { used += 1 }
    entries[target] = entry
  }

  private mutating func growIfFull() {
    guard used >= entries.count / 2,
      UInt64(entries.count * 2 * MemoryLayout<Entry>.stride) <= byteLimit / 2
    else { return }
    let old = entries
    entries = [Entry](repeating: Entry(), count: old.count * 2)
    used = 0
    for entry in old where isLive(entry) {
      let bucket = bucket(entry.hash)
      guard let free = bucket.first(where: { entries[$0].hash == 0 }) else { continue }
      entries[free] = entry
      used += 1
    }
  }
}
