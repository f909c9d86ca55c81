import Base
public import DiskStrategy
import Glibc
import HostIO
import Synchronization

/// An older copy of the disk, which the destination has.
public struct BaseWish: Sendable {
  /// What the copy held when nobody had changed it yet.
  public var manifest: DiskManifest
  /// Of the disk's last snapshot: what wasn't written since isn't even read. nil: all of it is.
  public var own: DiskManifest?
  /// Parts of the copy that are compared with its manifest before anything is left out.
  public var sampleCount = 64
  /// Which parts those are.
  public var seed: UInt64
  /// Every part is compared before it is left out.
  public var verifiesAll = false

  public init(manifest: DiskManifest, seed: UInt64) {
    (self.manifest, self.seed) = (manifest, seed)
  }
}

/// What of an older copy the destination still has, by the copy's manifest.
///
/// The manifest tells of the copy as it was, so a part of which anything was ever sent is compared with it no
/// more: which these are a mapped file says, beside the map of the move, which is kept when the move is over.
/// It survives the server as written data do. After a crash of the host nobody knows, and nothing is left out.
final class BaseCopy: OlderCopy {
  /// Behind the path of the map of moves.
  static let fileSuffix = ".base"

  let wish: BaseWish
  let geometry: DiskGeometry
  var verifiesAll: Bool { wish.verifiesAll }
  var refusals: UInt64 { refusedParts.load(ordering: .relaxed) }
  /// Of the disk's own snapshot.
  private let notes: ChangeNotes?
  /// A set bit: something was sent to the block. nil: it is closed.
  private let sent: Mutex<MapFile?>
  /// Parts of the copy that weren't what the manifest says.
  let refusedParts = Atomic<UInt64>(0)

  private init(
    _ wish: BaseWish, _ geometry: DiskGeometry, _ notes: ChangeNotes?, _ file: MapFile
  ) {
    (self.wish, self.geometry, self.notes) = (wish, geometry, notes)
    sent = Mutex(file)
  }

  /// - Parameters:
  ///   - path: of the file.
  ///   - identity: of the image.
  ///   - uri: of the destination.
  ///   - goesOn: something was sent there before, so there has to be a file that says what.
  static func open(
    _ path: String, _ geometry: DiskGeometry, identity: String, uri: String, _ wish: BaseWish,
    _ notes: ChangeNotes?, goesOn: Bool
  ) throws -> BaseCopy {
    let encoded = wish.manifest.encoded
    // SAFETY: the array lives for the call, which only reads it.
    let hash = unsafe encoded.withUnsafeBytes { bytes in unsafe DiskManifest.hash(bytes) }
    let key = "\(identity)\n\(uri)\n\(hash.map { String($0, radix: 16) }.joined(separator: "."))"
    guard let file = try existing(path, geometry), file.key == key else {
      guard !goesOn else {
        throw MoveError(
          "the move that was interrupted was begun without this manifest: cancel it, and make one anew"
        )
      }
      // There is one file. What it knows of another manifest's copy, or of the disk before it was resized, is gone now.
      let old = try existing(path, geometry)
      if let old { try SpentManifests.add(old.key, beside: path) }
      let wasResized = old == nil && SmallFile.exists(path)
      let isSpent = try wasResized || SpentManifests.contains(key, beside: path)
      return BaseCopy(
        wish, geometry, notes, try MapFile.make(path, geometry, key: key, filled: isSpent))
    }
    if !file.isKnown() { file.fill() }
    _ = try file.load()
    return BaseCopy(wish, geometry, notes, file)
  }

  /// The destination is about to be changed by who notes nothing: of a copy there nothing is left out any more.
  static func spoil(
    _ path: String, _ geometry: DiskGeometry, identity: String, uri: String
  ) throws {
    guard let file = try existing(path, geometry), file.key.hasPrefix("\(identity)\n\(uri)\n")
    else { return }
    file.fill()
    try file.sync()
  }

  /// nil: there is none of a disk of this size.
  private static func existing(
    _ path: String, _ geometry: DiskGeometry
  ) throws(SystemError) -> MapFile? {
    do { return try MapFile.open(path, geometry) } catch {
      guard error.code == EINVAL else { throw error }
      return nil
    }
  }

  // MARK: What is sent

  /// Something is about to be sent to these blocks; false: it can't be noted any more, so nothing may be.
  func noteSent(_ blocks: Range<Int>) -> Bool {
    sent.withLock { file in
      guard let file else { return false }
      guard !blocks.isEmpty else { return true }
      for chunk in (blocks.lowerBound >> 6)...((blocks.upperBound - 1) >> 6) {
        file[chunk] |= Self.bits(blocks, of: chunk)
      }
      return true
    }
  }

  /// The disk's own content is compared with the manifest each time.
  func noteChange(_ blocks: Range<Int>) {}

  /// The destination is another disk, or somebody else's from now on.
  func noteAll() {
    sent.withLock { file in
      if let file { file.fill() }
    }
  }

  /// Those of a chunk's bits that are of these blocks.
  private static func bits(_ blocks: Range<Int>, of chunk: Int) -> UInt64 {
    let size = DiskGeometry.chunkBlockCount
    let own = blocks.clamped(to: (chunk * size)..<((chunk + 1) * size))
    guard !own.isEmpty else { return 0 }
    return (.max >> UInt64(size - own.count)) << UInt64(own.lowerBound - chunk * size)
  }

  func close() {
    sent.withLock { file in
      // One that can't be closed is not believed after a crash.
      try? file?.close(isClean: true)
      file = nil
    }
  }

  // MARK: What needn't be sent

  /// The parts of a run that the copy may still have as the manifest says.
  ///
  /// - Parameter blocks: any; only parts that are whole in there count.
  func parts(in blocks: Range<Int>) -> [Int] {
    let first = (blocks.lowerBound + Self.partBlocks - 1) / Self.partBlocks
    let last = min((blocks.upperBound - 1) / Self.partBlocks, wish.manifest.partCount - 1)
    guard first <= last else { return [] }
    return sent.withLock { file in
      guard let file else { return [] }
      return (first...last).filter { part in
        let own = self.blocks(of: part)
        let chunk = own.lowerBound / DiskGeometry.chunkBlockCount
        return own.upperBound <= blocks.upperBound
          && file[chunk] & Self.bits(own, of: chunk) == 0
          && wish.manifest.range(of: part) == geometry.bytes(of: own)
      }
    }
  }

  /// Whether the disk has the same by its own snapshot. Whoever writes now is noted first, and its blocks
  /// are sent.
  func isSame(_ part: Int) -> Bool {
    guard let own = wish.own, let notes, notes.isUnchanged(blocks(of: part)) else { return false }
    return own.hash(of: part) == wish.manifest.hash(of: part)
  }

  /// Whether the disk's bytes are what the copy had.
  func isSame(_ part: Int, _ bytes: UnsafeRawBufferPointer) -> Bool {
    unsafe wish.manifest.matches(part, bytes)
  }

  /// Reads a part of the copy; whether it is what the manifest says.
  func isThere(_ part: Int, over store: RemoteStore) throws(StoreError) -> Bool {
    let range = wish.manifest.range(of: part)
    let buffer = PageBuffer(byteCount: Int(range.upperBound - range.lowerBound))
    // SAFETY: the buffer is this call's own.
    let bytes = unsafe buffer.part(0, buffer.byteCount)
    try unsafe store.read(at: range.lowerBound, into: bytes)
    if unsafe wish.manifest.matches(part, UnsafeRawBufferPointer(bytes)) { return true }
    refusedParts.wrappingAdd(1, ordering: .relaxed)
    return false
  }

  // MARK: The sample

  /// Compares some parts of the copy, drawn by chance, with the manifest, before the first one is left out.
  func checkSample(over store: RemoteStore) throws {
    guard store.byteCount >= wish.manifest.byteCount else {
      throw MoveError("the destination is smaller than the copy that the manifest tells of")
    }
    for part in sample(of: wish.manifest.partCount, wish.sampleCount, seed: wish.seed)
    where try !isThere(part, over: store) {
      let place = wish.manifest.range(of: part).lowerBound
      throw MoveError(
        "the copy at the destination isn't what its manifest says, at \(place): make one anew (godwit block manifest), or move without"
      )
    }
  }

}

extension MapFile {
  /// Sets every block's bit.
  func fill() { for chunk in 0..<geometry.chunkCount { self[chunk] = .max } }
}
