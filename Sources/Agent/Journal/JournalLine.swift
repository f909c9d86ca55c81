import FoundationEssentials

/// A line of a journal: `FORMAT CHECKSUM RECORD`, the checksum (CRC-32C, eight hexadecimal digits) over
/// the record's JSON.
enum JournalLine {
  /// What this version writes, and the newest it reads.
  static let format = 1

  struct Refusal: Error {
    let code: JournalDamage.Code
  }

  static func encode(_ record: JournalRecord) throws -> [UInt8] {
    let json = [UInt8](try JSONEncoder().encode(record))
    return Array("\(format) \(hexadecimal(checksum(json))) ".utf8) + json + [UInt8(ascii: "\n")]
  }

  /// - Parameter line: without its newline.
  static func decode(_ line: some Collection<UInt8>) throws(Refusal) -> JournalRecord {
    let parts = line.split(separator: UInt8(ascii: " "), maxSplits: 2)
    guard parts.count == 3, let format = Int(String(decoding: parts[0], as: UTF8.self)) else {
      throw Refusal(code: .corrupt)
    }
    guard format <= Self.format else { throw Refusal(code: .newer(format: format)) }
    let json = Array(parts[2])
    guard Array(hexadecimal(checksum(json)).utf8) == Array(parts[1]) else {
      throw Refusal(code: .corrupt)
    }
    return try record(json)
  }

  private static func record(_ json: [UInt8]) throws(Refusal) -> JournalRecord {
    do { return try JSONDecoder().decode(JournalRecord.self, from: Data(json)) } catch {
      throw Refusal(code: .corrupt)
    }
  }

  private static func hexadecimal(_ value: UInt32) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 8 - digits.count) + digits
  }

  /// CRC-32C (Castagnoli, RFC 3720 appendix B.4).
  static func checksum(_ bytes: [UInt8]) -> UInt32 {
    var crc = UInt32.max
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
    }
    return ~crc
  }
}

/// A journal that this agent cannot read as it was written, and therefore does not act upon.
struct JournalDamage: Error, CustomStringConvertible {
  enum Code: Hashable {
    case unreadable, corrupt
    case newer(format: Int)
  }

  let code: Code
  let path: String
  /// Of the first bad line, from 1.
  let line: Int
  /// The records before it.
  let intact: [JournalRecord]

  init(_ code: Code, path: String, line: Int = 0, intact: [JournalRecord] = []) {
    (self.code, self.path, self.line, self.intact) = (code, path, line, intact)
  }

  var description: String {
    switch code {
    case .unreadable: "the journal \(path) cannot be read"
    case .corrupt: "line \(line) of the journal \(path) is damaged"
    case .newer(let format):
      "the journal \(path) was written by a newer Godwit (format \(format) in line \(line)); "
        + "start that version again to settle it"
    }
  }
}
