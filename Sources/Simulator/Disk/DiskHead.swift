public import Base

/// Where a disk's head is, and when the bytes of its requests are over its wire. Pure: who asks says what time it is.
///
/// A model's decisions are made of it, and so is a device of the lab's, on which that time really passes.
public struct DiskHead: Sendable {
  let model: DiskModel
  private let blockCount: Double
  private var place = 0
  private var wireFreeUs: Double = 0

  /// - Parameter blockCount: 4 KiB blocks from one end of the head's way to the other.
  public init(_ model: DiskModel, blockCount: Int) {
    (self.model, self.blockCount) = (model, Double(max(blockCount, 1)))
  }

  /// How far it has to go to a block.
  func distance(to block: Int) -> Int { abs(block - place) }

  /// Serves a request that begins at `nowUs`; says when its last byte is there. Later requests begin no earlier.
  public mutating func serve(
    _ blocks: Range<Int>, isWrite: Bool, nowUs: UInt64, using random: inout SplitMix64
  ) -> UInt64 {
    let bytes = Double(blocks.count) * 4096
    let (start, transferUs) = (
      Double(nowUs) + positioning(to: blocks.lowerBound, isWrite, &random),
      bytes * 1e6 / model.bytesPerSecond
    )
    wireFreeUs = max(wireFreeUs, start) + transferUs
    place = blocks.upperBound
    return UInt64(wireFreeUs.rounded(.up))
  }

  /// Before the first byte; no seek where the last request ended.
  private func positioning(
    to block: Int, _ isWrite: Bool, _ random: inout SplitMix64
  ) -> Double {
    let fixed = isWrite ? model.writeUs : model.readUs
    let distance = Double(distance(to: block))
    guard model.seekUs > 0, distance > 0 else { return fixed }
    let seek = model.settleUs + model.seekUs * (distance / blockCount).squareRoot()
    return fixed + seek + random.share() * model.turnUs
  }
}
