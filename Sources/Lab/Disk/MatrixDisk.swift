import Agent
import Base

/// A disk of a scenario: what it can do, and what its clients do with it.
public struct MatrixDisk: Sendable, Equatable {
  /// All of them are on one machine.
  static let countMax = 8
  static let sizeMax = ByteCount.mebibytes(16 << 10)

  /// What clients do: each operation is one whole block, and one after the other on each of `depth` threads.
  public struct Load: Sendable, Equatable {
    /// Which blocks the clients' operations go to.
    public enum Pattern: String, Sendable, CaseIterable {
      case uniform, sequential
      /// Nine of ten operations go to `hotByteCount` of it.
      case hotspot
    }

    /// nil: as many as it goes.
    public var operationsPerSecond: UInt64?
    /// Requests under way at one time, `1...64`.
    public var depth = 4
    public var writePercent: UInt64 = 30
    /// Whole pages, at most 1 MiB.
    public var blockBytes = 4096
    public var pattern = Pattern.hotspot
    /// From the disk's start; nil: a tenth of what they use.
    public var hotByteCount: UInt64?
    /// The part of the disk that they use, from its start, in percent: `1...100`.
    public var usedPercent: UInt64 = 100

    public init() {}
  }

  public var name: String
  /// Disks like this that are moved at once.
  public var count = 1
  public var byteCount: UInt64
  /// What the device does at most, whoever asks, as QEMU's throttle filter has it; nil: what this machine's disk does.
  public var deviceOperationsPerSecond, deviceBytesPerSecond: UInt64?
  /// The device is a drive with one head, whose seeks take their time (`HeadedStore`); so is the surrogate of `waio`.
  public var hasHead = false
  /// What is written between the snapshot and the clients' beginning, in bytes: as if they had been there for longer.
  public var changedByteCount: UInt64 = 0
  /// Servers that have all disks as they were when the clients began, for `snapmig`.
  public var backupCount = 1
  public var load = Load()

  public init(name: String, byteCount: UInt64) { (self.name, self.byteCount) = (name, byteCount) }

  /// By QEMU's filter.
  var isThrottled: Bool { deviceOperationsPerSecond != nil || deviceBytesPerSecond != nil }
  /// It stands before the image, as a file of its own, opened past the page cache.
  var isLimited: Bool { isThrottled || hasHead }
  var blockCount: UInt64 { byteCount / UInt64(load.blockBytes) }
  /// Of `hotspot`; nil: a tenth of what is used.
  var hotBlockCount: UInt64? { load.hotByteCount.map { $0 / UInt64(load.blockBytes) } }
  /// Blocks that clients use, from the disk's start.
  var usedBlockCount: UInt64 { max(blockCount * load.usedPercent / 100, 1) }

  /// What is wrong with it; nil: nothing.
  var problem: String? {
    if name.isEmpty || name.contains("/") { return "disk: \"\(name)\" is no name" }
    guard byteCount >= 1 << 20, byteCount <= Self.sizeMax.bytes, byteCount % (1 << 20) == 0 else {
      return "size: a disk has 1 MiB to \(Self.sizeMax), in whole MiB"
    }
    guard load.blockBytes % 4096 == 0, (4096...(1 << 20)).contains(load.blockBytes),
      (1 << 20) % load.blockBytes == 0
    else { return "block: 4 KiB to 1 MiB, a power of two" }
    if hasHead, isThrottled { return "device: a drive with a head has its own limits" }
    // Distinct blocks are drawn until there are enough.
    guard changedByteCount <= byteCount * load.usedPercent / 200 else {
      return "changed: at most half of what the clients use"
    }
    if changedByteCount > 0, isThrottled {
      return "changed: a device with limits would take its time for that; device = \"hdd\" waits"
    }
    return nil
  }
}

extension MatrixDisk: Decodable {
  enum CodingKeys: String, CodingKey, CaseIterable {
    case name, count, size, device, deviceOperations, deviceRate, backups, changed, load
  }
  enum LoadKeys: String, CodingKey, CaseIterable {
    case operations, depth, writePercent, block, pattern, hot, used
  }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    name = try values.decode(String.self, forKey: .name)
    count = try values.number(.count, 1...Self.countMax) ?? 1
    guard let size = try values.size(.size) else {
      throw DecodingError.dataCorruptedError(
        forKey: .size, in: values, debugDescription: "a disk needs a size")
    }
    byteCount = size
    deviceOperationsPerSecond = try values.number(.deviceOperations, 10...1_000_000).map {
      UInt64($0)
    }
    deviceBytesPerSecond = try values.parsed(.deviceRate, "a rate like 60MiB/s") {
      ByteRate(parsing: $0)?.bytesPerSecond
    }
    hasHead =
      try values.parsed(.device, "hdd, or none for what this machine's disk does") {
        $0 == "hdd" ? true : nil
      } ?? false
    changedByteCount = try values.size(.changed) ?? 0
    backupCount = try values.number(.backups, 1...8) ?? backupCount
    guard values.contains(.load) else { return }
    let table = try values.nestedContainer(keyedBy: LoadKeys.self, forKey: .load)
    load.operationsPerSecond = try table.number(.operations, 1...1_000_000).map { UInt64($0) }
    load.depth = try table.number(.depth, 1...64) ?? load.depth
    load.writePercent = UInt64(try table.number(.writePercent, 0...100) ?? Int(load.writePercent))
    if let block = try table.size(.block) { load.blockBytes = Int(clamping: block) }
    load.pattern =
      try table.parsed(.pattern, "uniform, sequential or hotspot") { .init(rawValue: $0) }
      ?? load.pattern
    load.hotByteCount = try table.size(.hot)
    load.usedPercent = UInt64(try table.number(.used, 1...100) ?? Int(load.usedPercent))
  }
}
