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

  private var waiting: [DiskRequest] = []
  private var servedCount = 0
  private var head: DiskHead

  init(_ model: DiskModel, blockCount: Int) { head = DiskHead(model, blockCount: blockCount) }

  mutating func add(_ request: DiskRequest) { waiting.append(request) }

  /// The next request to be served, and when it will have been; nil: none, or no room for one.
  mutating func begin(
    nowUs: UInt64, using random: inout SplitMix64
  ) -> (request: DiskRequest, endUs: UInt64)? {
    guard servedCount < head.model.depth, let index = choose(nowUs) else { return nil }
    let request = waiting.remove(at: index)
    servedCount += 1
    let endUs = head.serve(
      request.blocks, isWrite: request.isWrite, nowUs: nowUs, using: &random)
    return (request, endUs)
  }

  mutating func end() { servedCount -= 1 }

  private func choose(_ nowUs: UInt64) -> Int? {
    // The queue is in order of arrival.
    guard let oldest = waiting.first else { return nil }
    guard head.model.seekUs > 0, nowUs - oldest.sinceUs < Self.patienceUs else { return 0 }
    return waiting.indices.min { distance(waiting[$0]) < distance(waiting[$1]) }
  }

  private func distance(_ request: DiskRequest) -> Int {
    head.distance(to: request.blocks.lowerBound)
  }
}
