import Base
import BlockStore
import HostIO
import NBD
import Simulator
import Synchronization

/// A store on a drive with one head, in real time: its requests are carried out one after the other, in the order in
/// which they come, and each takes what the simulator's model says (`DiskHead`): the seek by its distance, a random part
/// of a turn, the bytes at the platter's rate.
///
/// The drive's clock is its own: a request that finds others before it begins when the last of them ended, not when a
/// thread that was told so woke up late. It has no cache that writes could wait in.
final class HeadedStore: DiskStore {
  private struct Drive: Sendable {
    var head: DiskHead
    var random: SplitMix64
    /// When the last request ends, in microseconds of the monotonic clock.
    var freeUs: UInt64 = 0
  }

  private let original: any DiskStore
  private let drive: Mutex<Drive>
  private let isTimed = Atomic(false)

  /// - Parameter seed: of the turns that requests find.
  init(_ original: any DiskStore, _ model: DiskModel, seed: UInt64) {
    self.original = original
    let blockCount = Int(clamping: original.byteCount / UInt64(Page.size))
    drive = Mutex(
      Drive(head: DiskHead(model, blockCount: blockCount), random: SplitMix64(seed: seed)))
  }

  /// From now on requests take their time; what is made ready before does not.
  func begin() { isTimed.store(true, ordering: .relaxed) }

  var byteCount: UInt64 { original.byteCount }

  var traits: DiskTraits {
    var traits = original.traits
    traits.isPrompt = false
    return traits
  }

  func read(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    let endUs = endUs(offset, UInt64(target.count), isWrite: false)
    try unsafe original.read(at: offset, into: target)
    Self.wait(until: endUs)
  }

  func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool
  ) throws(StoreError) {
    let endUs = endUs(offset, UInt64(bytes.count), isWrite: true)
    try unsafe original.write(bytes, at: offset, durable: false)
    Self.wait(until: endUs)
  }

  func zero(
    at offset: UInt64, count: UInt64, _ options: ZeroOptions
  ) throws(StoreError) {
    // A drive has no faster way than to write them.
    guard !options.contains(.fast) else {
      throw StoreError(.notSupported, "zeros would have to be written")
    }
    let endUs = endUs(offset, count, isWrite: true)
    try original.zero(at: offset, count: count, options.subtracting(.durable))
    Self.wait(until: endUs)
  }

  /// It was a hint.
  func trim(at offset: UInt64, count: UInt64) throws(StoreError) {}

  /// Every write that has returned is on the platter. What stands for it, a file of this machine, is thrown away with
  /// the trial: to sync it would be another disk's time.
  func flush() throws(StoreError) {}

  func status(
    at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] { [NBDExtent(length: count, flags: 0)] }

  /// The request's turn comes by its arrival: nobody has to queue for what can be calculated.
  private func endUs(_ offset: UInt64, _ count: UInt64, isWrite: Bool) -> UInt64 {
    guard isTimed.load(ordering: .relaxed), count > 0 else { return 0 }
    let page = UInt64(Page.size)
    let blocks =
      Int(clamping: offset / page)..<Int(clamping: (offset + count - 1) / page + 1)
    return drive.withLock { drive in
      let beginUs = max(MonotonicClock.nowUs, drive.freeUs)
      drive.freeUs = drive.head.serve(
        blocks, isWrite: isWrite, nowUs: beginUs, using: &drive.random)
      return drive.freeUs
    }
  }

  private static func wait(until endUs: UInt64) {
    let nowUs = MonotonicClock.nowUs
    if endUs > nowUs { MonotonicClock.sleep(us: endUs - nowUs) }
  }
}
