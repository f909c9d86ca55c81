import Base
import DiskStrategy
import Glibc
import HostIO
import NBD

/// What of the destination was compared with the disk.
struct DestinationSample: Sendable {
  /// Blocks that are otherwise there than here, or were while the guest wrote to them.
  var different: [Int] = []
  /// Blocks that the destination can't read.
  var unreadable: [Int] = []
}

/// An image that was made anew in its place (`qemu-img create`, `truncate`) has the file's number, age and name, so a
/// destination that comes back shows some of what it should have. One that lost only little may pass.
extension DiskMove {
  /// Blocks that are compared, and those that are drawn for that.
  private static let (sampleMax, drawsMax) = (64, 1024)

  /// Compares some of the blocks that the destination has on stable storage, drawn by chance.
  func compare(_ store: RemoteStore) throws(StoreError) -> DestinationSample {
    let (blocks, size) = (drawSample(), DiskGeometry.blockByteCount)
    var (sample, failure): (DestinationSample, StoreError?) = (DestinationSample(), nil)
    let theirs = PageBuffer(byteCount: max(blocks.count, 1) * size)
    var pending: [RemoteStore.Pending] = []
    for (place, block) in blocks.enumerated() {
      let range = geometry.bytes(of: block..<block + 1)
      do throws(StoreError) {
        // SAFETY: every read that was started is finished below, before the buffer goes.
        let room = unsafe theirs.part(place * size, Int(range.upperBound - range.lowerBound))
        pending.append(try unsafe store.startRead(at: range.lowerBound, into: room))
      } catch {
        failure = error
        break
      }
    }
    var there: [(place: Int, block: Int)] = []
    for (place, read) in pending.enumerated() {
      do throws(StoreError) {
        try store.finish(read)
        there.append((place, blocks[place]))
      } catch {
        if store.isBroken { failure = error } else { sample.unreadable.append(blocks[place]) }
      }
    }
    if let failure { throw failure }
    for (place, block) in there where isOther(block, than: theirs, at: place * size) {
      sample.different.append(block)
    }
    return sample
  }

  /// Where a disk has little else than holes, a new image would pass as long as only those were looked at.
  private func drawSample() -> [Int] {
    let drawn = state.read { state in
      var random = SystemRandomNumberGenerator()
      return Set((0..<Self.drawsMax).compactMap { _ in state.map.syncedBlock(using: &random) })
    }
    var (data, zeros): ([Int], [Int]) = ([], [])
    for block in drawn where data.count < Self.sampleMax {
      if isZero(block) { zeros.append(block) } else { data.append(block) }
    }
    return Array((data + zeros).prefix(Self.sampleMax))
  }

  private func isZero(_ block: Int) -> Bool {
    let range = geometry.bytes(of: block..<block + 1)
    let count = range.upperBound - range.lowerBound
    let told = try? source.status(at: range.lowerBound, count: count, extentsMax: 1)
    return told?.first.map { $0.flags & NBDExtent.zero != 0 && $0.length == count } ?? false
  }

  /// False also where the disk can't be read here: that says nothing of the destination.
  private func isOther(_ block: Int, than theirs: PageBuffer, at place: Int) -> Bool {
    let range = geometry.bytes(of: block..<block + 1)
    let count = Int(range.upperBound - range.lowerBound)
    let mine = PageBuffer(byteCount: DiskGeometry.blockByteCount)
    // SAFETY: both buffers hold a block from there on, and live for the calls.
    let (own, other) = unsafe (mine.part(0, count), theirs.part(place, count))
    do throws(StoreError) {
      try unsafe read(range, into: own, keeps: false)
    } catch { return false }
    guard let one = own.baseAddress, let two = other.baseAddress else { return false }
    return unsafe memcmp(one, two, count) != 0
  }
}

extension MoveState {
  /// Takes what was found; false: the destination isn't the one that the map tells of, and has nothing.
  mutating func take(_ sample: DestinationSample) -> Bool {
    // What the guest has written since is sent anyway.
    for block in sample.unreadable where map.isSynced(block) { note(block..<block + 1) }
    guard sample.different.contains(where: { map.isSynced($0) }) else { return true }
    needAll()
    return false
  }

  /// The destination has nothing; false: the map can't be kept any more.
  @discardableResult
  mutating func needAll() -> Bool {
    base?.noteAll()
    map.needAll()
    if map.geometry.blockCount > 0 { save(0..<map.geometry.blockCount) }
    do throws(SystemError) {
      try file?.sync()
      return true
    } catch {
      file?.remove()
      file = nil
      return false
    }
  }
}
