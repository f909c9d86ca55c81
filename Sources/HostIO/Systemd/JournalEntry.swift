/// One entry for systemd's journal in its native protocol
/// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): `NAME=value`, one field a line.
public struct JournalEntry: Sendable, Equatable {
  /// Longer values are cut: an entry must fit one datagram.
  static let valueBytesMax = 16 << 10
  static let fieldCountMax = 64

  /// What is to be sent, as one datagram.
  public private(set) var bytes: [UInt8] = []
  private var fieldCount = 0

  public init() {}

  /// Adds a field. A value with a line break takes the binary form: name, length, value.
  public mutating func add(_ name: String, _ value: String) {
    guard fieldCount < Self.fieldCountMax, let name = Self.fieldName(name) else { return }
    fieldCount += 1
    bytes += name.utf8
    let content = Array(value.utf8.prefix(Self.valueBytesMax))
    if content.contains(UInt8(ascii: "\n")) {
      bytes.append(UInt8(ascii: "\n"))
      for shift in stride(from: 0, to: 64, by: 8) {
        bytes.append(UInt8(truncatingIfNeeded: content.count >> shift))
      }
    } else {
      bytes.append(UInt8(ascii: "="))
    }
    bytes += content
    bytes.append(UInt8(ascii: "\n"))
  }

  /// Upper case, digits and `_`, at most 64, beginning with a letter; nil when nothing is left.
  static func fieldName(_ text: String) -> String? {
    let letters = text.uppercased().unicodeScalars.map { scalar -> Character in
      ("A"..."Z").contains(scalar) || ("0"..."9").contains(scalar) ? Character(scalar) : "_"
    }
    let name = String(letters.drop { !("A"..."Z").contains($0) }.prefix(64))
    return name.isEmpty ? nil : name
  }
}
