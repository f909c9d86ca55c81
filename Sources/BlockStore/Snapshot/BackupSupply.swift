import Base
public import DiskStrategy
import HostIO
import Synchronization

/// Where the blocks of a snapshot can be had.
public struct SnapshotWish: Sendable {
  public var manifest: DiskManifest
  /// Exports that have the disk as it was, or nearly.
  public var backups: [MoveDestination]
  /// How long a backup may owe answers and be silent, in milliseconds: the next one, or the disk, has the same.
  public var silenceMs: UInt64 = 5000

  public init(manifest: DiskManifest, backups: [MoveDestination]) {
    (self.manifest, self.backups) = (manifest, backups)
  }
}

/// Reads blocks from backups, in turn, and believes none of them: what isn't as the manifest says is not given.
final class BackupSupply: Sendable {
  private struct Slot: Sendable {
    var store: RemoteStore?
    var isDialled = false
    /// Not dialled before, in microseconds; nil: never again.
    var dialUs: UInt64? = 0
  }
  /// Between two connections to a backup that can't be used, in microseconds.
  private static let retryUs: UInt64 = 2_000_000
  /// One that was silent is left alone for so many times as long: it costs an eighth of the copier's time at most.
  private static let silentRest: UInt64 = 8

  private let wish: SnapshotWish
  private let notes: ChangeNotes
  private let slots: Mutex<[Slot]>
  private let turn = Atomic<Int>(0)
  /// What backups gave, in bytes, and parts of the disk that a backup had otherwise or not at all.
  let suppliedBytes = Atomic<UInt64>(0)
  let refusedParts = Atomic<UInt64>(0)

  init(_ wish: SnapshotWish, _ notes: ChangeNotes) {
    (self.wish, self.notes) = (wish, notes)
    slots = Mutex(Array(repeating: Slot(), count: wish.backups.count))
  }

  /// Fills `target` with those of the blocks that are as they were and that a backup has; says what is missing.
  ///
  /// - Parameter blocks: within one chunk.
  func fill(
    _ blocks: Range<Int>, _ geometry: DiskGeometry, into target: UnsafeMutableRawBufferPointer
  ) -> [Range<Int>] {
    if unsafe fillAll(blocks, geometry, into: target) { return [] }
    let partBlocks = Int(DiskManifest.partByteCount) / DiskGeometry.blockByteCount
    var missing: [Range<Int>] = []
    var first = blocks.lowerBound
    while first < blocks.upperBound {
      let some = first..<min((first / partBlocks + 1) * partBlocks, blocks.upperBound)
      first = some.upperBound
      let bytes = geometry.bytes(of: some)
      let start = (some.lowerBound - blocks.lowerBound) * DiskGeometry.blockByteCount
      let end = start + Int(bytes.upperBound - bytes.lowerBound)
      // SAFETY: the slice is bounds-checked, and the caller keeps the buffer for the call.
      let part = unsafe UnsafeMutableRawBufferPointer(rebasing: target[start..<end])
      if some != blocks, unsafe fillAll(some, geometry, into: part) { continue }
      missing.append(some)
    }
    return missing
  }

  private func fillAll(
    _ blocks: Range<Int>, _ geometry: DiskGeometry, into target: UnsafeMutableRawBufferPointer
  ) -> Bool {
    // Whoever writes now is noted first, and its blocks are sent once more.
    guard notes.isUnchanged(blocks) else { return false }
    let bytes = geometry.bytes(of: blocks)
    let manifest = wish.manifest
    let first = Int(bytes.lowerBound / DiskManifest.partByteCount)
    let last = Int((bytes.upperBound - 1) / DiskManifest.partByteCount)
    let start = manifest.range(of: first).lowerBound
    let end = manifest.range(of: last).upperBound
    let buffer = PageBuffer(byteCount: Int(end - start))
    let count = wish.backups.count
    let begin = turn.wrappingAdd(1, ordering: .relaxed).oldValue
    for attempt in 0..<count {
      guard let store = store((begin + attempt) % count),
        (try? unsafe store.read(at: start, into: buffer.part(0, buffer.byteCount))) != nil
      else { continue }
      let isRight = (first...last).allSatisfy { part in
        let range = manifest.range(of: part)
        // SAFETY: the part is bounds-checked; the buffer is this call's own.
        let found = unsafe UnsafeRawBufferPointer(
          buffer.part(Int(range.lowerBound - start), Int(range.upperBound - range.lowerBound)))
        return unsafe manifest.matches(part, found)
      }
      guard isRight else {
        refusedParts.wrappingAdd(1, ordering: .relaxed)
        continue
      }
      unsafe target.copyMemory(
        from: UnsafeRawBufferPointer(buffer.part(Int(bytes.lowerBound - start), target.count)))
      suppliedBytes.wrappingAdd(UInt64(target.count), ordering: .relaxed)
      return true
    }
    return false
  }

  /// Connects to all backups that there are.
  func connect() { for index in wish.backups.indices { _ = store(index) } }

  /// The connection to a backup; nil: there is none now.
  private func store(_ index: Int) -> RemoteStore? {
    let startUs = MonotonicClock.nowUs
    let (open, mayDial) = slots.withLock { slots -> (RemoteStore?, Bool) in
      if let store = slots[index].store {
        if !store.isBroken { return (store, false) }
        slots[index].store = nil
        if store.silence != nil, slots[index].dialUs != nil {
          slots[index].dialUs = startUs + wish.silenceMs * 1000 * Self.silentRest
        }
      }
      guard !slots[index].isDialled, let dialUs = slots[index].dialUs, startUs >= dialUs else {
        return (nil, false)
      }
      slots[index].isDialled = true
      return (nil, true)
    }
    guard mayDial else { return open }
    var made = try? wish.backups[index].connect(
      silence: .backup(index + 1, ms: wish.silenceMs))
    if let small = made, small.byteCount < wish.manifest.byteCount {
      small.close()
      made = nil
    }
    let nowUs = MonotonicClock.nowUs
    let isWanted = slots.withLock { slots -> Bool in
      slots[index].isDialled = false
      guard slots[index].dialUs != nil else { return false }
      slots[index].store = made
      slots[index].dialUs = nowUs + max(Self.retryUs, (nowUs - startUs) * Self.silentRest)
      return true
    }
    guard !isWanted else { return made }
    made?.close()
    return nil
  }

  func close() {
    for store in slots.withLock({ slots in
      defer { for index in slots.indices { slots[index] = Slot(dialUs: nil) } }
      return slots.compactMap(\.store)
    }) { store.close() }
  }
}
