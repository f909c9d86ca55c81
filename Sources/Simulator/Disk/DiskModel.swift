import Base

/// What a disk's requests cost. Times in microseconds.
public struct DiskModel: Sendable, Equatable {
  /// Requests that are served at once.
  public var depth: Int
  /// Before the first byte, of a read and of a write.
  public var readUs, writeUs: Double
  public var bytesPerSecond: Double
  /// Moving the head across the whole disk, and settling it; 0: there is none.
  public var seekUs, settleUs: Double
  /// One turn.
  public var turnUs: Double

  /// A drive of 7200 turns a minute: 1 to 14 ms of seeking, as its distance's root, half a turn on average, 150 MB/s.
  public static let hdd = DiskModel(
    depth: 1, readUs: 50, writeUs: 50, bytesPerSecond: 150e6, seekUs: 13_000, settleUs: 1000,
    turnUs: 8333)
  /// A SATA SSD.
  public static let ssd = DiskModel(
    depth: 32, readUs: 90, writeUs: 30, bytesPerSecond: 500e6, seekUs: 0, settleUs: 0, turnUs: 0)
  /// A volume over a network of 1 Gbit/s.
  public static let network = DiskModel(
    depth: 16, readUs: 600, writeUs: 900, bytesPerSecond: 117e6, seekUs: 0, settleUs: 0, turnUs: 0)
}

/// A request that waits for the disk or is served.
struct DiskRequest {
  enum Owner: Equatable {
    case guest(Int)
    case copier(Int)
  }
  let owner: Owner
  let isWrite: Bool
  let blocks: Range<Int>
  let sinceUs: UInt64
}

/// A disk at work: a queue, served by what is nearest to the head, and nobody waits for ever.
struct DiskDevice {
  /// Who has waited so long goes first, in microseconds: as the kernel's deadline scheduler has it for reads.
  static let patienceUs: UInt64 = 500_000

  let model: DiskModel
  private let blockCount: Double
  private var waiting: [DiskRequest] = []
  private var servedCount = 0
  private var head = 0
  /// When the bytes of the last request are over the wire of the disk.
  private var wireFreeUs: Double = 0

  init(_ model: DiskModel, blockCount: Int) {
    (self.model, self.blockCount) = (model, Double(max(blockCount, 1)))
  }

  mutating func add(_ request: DiskRequest) { waiting.append(request) }

  /// The next request to be served, and when it will have been; nil: none, or no room for one.
  mutating func begin(
    nowUs: UInt64, using random: inout SplitMix64
  ) -> (request: DiskRequest, endUs: UInt64)? {
    guard servedCount < model.depth, let index = choose(nowUs) else { return nil }
    let request = waiting.remove(at: index)
    servedCount += 1
    let bytes = Double(request.blocks.count) * 4096
    let (start, transferUs) = (
      Double(nowUs) + positioning(request, &random), bytes * 1e6 / model.bytesPerSecond
    )
    wireFreeUs = max(wireFreeUs, start) + transferUs
    head = request.blocks.upperBound
    return (request, UInt64(wireFreeUs.rounded(.up)))
  }

  mutating func end() { servedCount -= 1 }

  private func choose(_ nowUs: UInt64) -> Int? {
    // The queue is in order of arrival.
    guard let oldest = waiting.first else { return nil }
    guard model.seekUs > 0, nowUs - oldest.sinceUs < Self.patienceUs else { return 0 }
    return waiting.indices.min { distance(waiting[$0]) < distance(waiting[$1]) }
  }

  private func distance(_ request: DiskRequest) -> Int { abs(request.blocks.lowerBound - head) }

  /// Before the first byte; nothing where the last request ended.
  private func positioning(
    _ request: DiskRequest, _ random: inout SplitMix64
  ) -> Double {
    let fixed = request.isWrite ? model.writeUs : model.readUs
    let distance = Double(distance(request))
    guard model.seekUs > 0, distance > 0 else { return fixed }
    let seek = model.settleUs + model.seekUs * (distance / blockCount).squareRoot()
    return fixed + seek + random.share() * model.turnUs
  }
}
