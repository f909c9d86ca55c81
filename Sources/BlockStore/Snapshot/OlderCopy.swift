import Base
import DiskStrategy

/// What a destination has of a disk already, in parts of 64 KiB. Calls come from any number of threads.
protocol OlderCopy: AnyObject, Sendable {
  var geometry: DiskGeometry { get }
  /// Every part is compared before it is left out.
  var verifiesAll: Bool { get }
  /// Parts of the copy that weren't what they should be.
  var refusals: UInt64 { get }

  /// Something is about to be sent to these blocks; false: it can't be noted any more, so nothing may be.
  func noteSent(_ blocks: Range<Int>) -> Bool
  /// The guest is about to change these blocks of the disk.
  func noteChange(_ blocks: Range<Int>)
  /// The destination is another disk, or somebody else's from now on.
  func noteAll()
  func close()

  /// The parts of a run that the copy may still have as it was.
  ///
  /// - Parameter blocks: any; only parts that are whole in there count.
  func parts(in blocks: Range<Int>) -> [Int]
  /// Whether the disk has the same, as far as is known without reading it.
  func isSame(_ part: Int) -> Bool
  /// Whether the disk's bytes are what the copy had.
  func isSame(_ part: Int, _ bytes: UnsafeRawBufferPointer) -> Bool
  /// Reads a part of the copy; whether it is what it should be.
  func isThere(_ part: Int, over store: RemoteStore) throws(StoreError) -> Bool
}

extension OlderCopy {
  /// Blocks of a part.
  static var partBlocks: Int { Int(DiskManifest.partByteCount) / DiskGeometry.blockByteCount }

  /// The blocks of a part.
  func blocks(of part: Int) -> Range<Int> {
    let first = min(part * Self.partBlocks, geometry.blockCount)
    return first..<min(first + Self.partBlocks, geometry.blockCount)
  }

  /// Parts to be compared before anything is left out, drawn by chance among those that may be.
  func sample(of partCount: Int, _ count: Int, seed: UInt64) -> [Int] {
    var random = SplitMix64(seed: seed)
    guard partCount > count * 4 else {
      return Array(
        parts(in: 0..<geometry.blockCount).shuffled(using: &random).prefix(count))
    }
    // Of a large disk nobody wants a list of all parts.
    var drawn: Set<Int> = []
    for _ in 0..<(count * 16) where drawn.count < count {
      let part = Int(random.next() % UInt64(partCount))
      if !parts(in: blocks(of: part)).isEmpty { drawn.insert(part) }
    }
    return drawn.sorted()
  }
}
