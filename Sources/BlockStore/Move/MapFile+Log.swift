import DiskStrategy
import HostIO

/// The activity log, and access to the mapping.
extension MapFile {
  /// Stores the log beside the one before. `sync` has to follow.
  func keep(_ log: ActivityLog) {
    sequence &+= 1
    let start = Self.headerByteCount + Int(sequence & 1) * Self.logByteCount
    for (index, part) in log.parts.enumerated() {
      let offset = start + Self.logHeaderByteCount + index * 4
      // SAFETY: 900 parts at most, so within the log's 4096 bytes.
      unsafe mapping.storeBytes(of: part.littleEndian, toByteOffset: offset, as: UInt32.self)
    }
    set(sequence, at: start)
    set(UInt64(log.parts.count), at: start + 8)
    set(Self.checksum(sequence, log.parts), at: start + 16)
  }

  /// The newer of the two logs that is whole, with its sequence: one that is torn was not in force yet.
  var storedLog: (sequence: UInt64, log: ActivityLog)? {
    var newest: (sequence: UInt64, log: ActivityLog)?
    for copy in 0...1 {
      let start = Self.headerByteCount + copy * Self.logByteCount
      let (sequence, count) = (word(at: start), word(at: start + 8))
      guard sequence > newest?.sequence ?? 0, count <= UInt64(ActivityLog.capacity) else {
        continue
      }
      let found = (0..<Int(count)).map { index in
        // SAFETY: within the log's 4096 bytes by the guard.
        unsafe UInt32(
          littleEndian: mapping.load(
            fromByteOffset: start + Self.logHeaderByteCount + index * 4, as: UInt32.self))
      }
      guard Self.checksum(sequence, found) == word(at: start + 16) else { continue }
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

  func word(at offset: Int) -> UInt64 {
    precondition(offset >= 0 && offset <= byteCount - 8 && offset.isMultiple(of: 8))
    // SAFETY: in bounds by the precondition; any bit pattern is a number.
    return unsafe UInt64(littleEndian: mapping.load(fromByteOffset: offset, as: UInt64.self))
  }

  func set(_ value: UInt64, at offset: Int) {
    precondition(offset >= 0 && offset <= byteCount - 8 && offset.isMultiple(of: 8))
    // SAFETY: in bounds by the precondition.
    unsafe mapping.storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt64.self)
  }

  func bytes(at offset: Int, count: Int) -> [UInt8] {
    precondition(offset >= 0 && count >= 0 && offset <= byteCount - count)
    // SAFETY: in bounds by the precondition.
    return unsafe Array(UnsafeRawBufferPointer(start: mapping + offset, count: count))
  }

  func store(_ bytes: [UInt8], at offset: Int) {
    precondition(offset >= 0 && offset <= byteCount - bytes.count)
    // SAFETY: in bounds by the precondition.
    unsafe UnsafeMutableRawBufferPointer(start: mapping + offset, count: bytes.count)
      .copyBytes(from: bytes)
  }
}

/// What tells this run of the kernel from others.
enum BootIdentity {
  static let current: String = {
    let text = try? SmallFile.read("/proc/sys/kernel/random/boot_id", bytesMax: 64)
    return text.map { String($0.prefix(36)) } ?? "unknown"
  }()
}
