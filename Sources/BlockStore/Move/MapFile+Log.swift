import DiskStrategy
import HostIO

/// The activity log.
extension MapFile {
  /// Stores the log beside the one before. `sync` has to follow.
  func keep(_ log: ActivityLog) {
    sequence &+= 1
    let start = Self.headerByteCount + Int(sequence & 1) * Self.logByteCount
    let parts = log.parts.flatMap { part in
      (0..<4).map { UInt8(truncatingIfNeeded: part >> ($0 * 8)) }
    }
    record.store(parts, at: start + Self.logHeaderByteCount)
    record.set(sequence, at: start)
    record.set(UInt64(log.parts.count), at: start + 8)
    record.set(Self.checksum(sequence, log.parts), at: start + 16)
  }

  /// The newer of the two logs that is whole, with its sequence: one that is torn was not in force yet.
  var storedLog: (sequence: UInt64, log: ActivityLog)? {
    var newest: (sequence: UInt64, log: ActivityLog)?
    for copy in 0...1 {
      let start = Self.headerByteCount + copy * Self.logByteCount
      let (sequence, count) = (record.word(at: start), record.word(at: start + 8))
      guard sequence > newest?.sequence ?? 0, count <= UInt64(ActivityLog.capacity) else {
        continue
      }
      let bytes = record.bytes(at: start + Self.logHeaderByteCount, count: Int(count) * 4)
      let found = (0..<Int(count)).map { index in
        bytes[index * 4..<index * 4 + 4].reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
      }
      guard Self.checksum(sequence, found) == record.word(at: start + 16) else { continue }
      newest = (sequence, ActivityLog(found))
    }
    return newest
  }

  /// FNV-1a over the numbers' bytes: against torn pages, not against anybody.
  private static func checksum(_ sequence: UInt64, _ parts: [UInt32]) -> UInt64 {
    var sum: UInt64 = 0xCBF2_9CE4_8422_2325
    for value in [sequence, UInt64(parts.count)] + parts.map(UInt64.init) {
      for shift in stride(from: UInt64(0), to: 64, by: 8) {
        sum = (sum ^ (value >> shift & 0xFF)) &* 0x100_0000_01B3
      }
    }
    return sum
  }
}

/// What tells this run of the kernel from others.
enum BootIdentity {
  static let current: String = {
    let text = try? SmallFile.read("/proc/sys/kernel/random/boot_id", bytesMax: 64)
    return text.map { String($0.prefix(36)) } ?? "unknown"
  }()
}
