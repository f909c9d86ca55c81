/// The numbers of QEMU's migration stream, version 3. All integers in it are big-endian.
@usableFromInline
enum StreamFormat {
  /// `QEVM`.
  static let magic: UInt32 = 0x5145_564D
  static let version: UInt32 = 3

  /// First byte of a record.
  @usableFromInline
  enum Record {
    static let endOfFile: UInt8 = 0x00
    static let start: UInt8 = 0x01
    static let part: UInt8 = 0x02
    static let end: UInt8 = 0x03
    static let full: UInt8 = 0x04
    static let subsection: UInt8 = 0x05
    static let description: UInt8 = 0x06
    static let configuration: UInt8 = 0x07
    static let command: UInt8 = 0x08
    static let footer: UInt8 = 0x7E
  }

  /// Low 12 bits of a RAM record's first word; the rest is the page's offset in its block.
  @usableFromInline
  enum RAM {
    static let idString = "ram"
    static let version: UInt32 = 4
    @usableFromInline static let flagMask: UInt64 = 0xFFF
    @usableFromInline static let zero: UInt64 = 0x002
    static let memorySize: UInt64 = 0x004
    @usableFromInline static let page: UInt64 = 0x008
    static let endOfSection: UInt64 = 0x010
    @usableFromInline static let sameBlock: UInt64 = 0x020
    static let xbzrle: UInt64 = 0x040
    static let hook: UInt64 = 0x080
    static let compressed: UInt64 = 0x100
    static let multifdFlush: UInt64 = 0x200
  }
}

/// What a section record is: RAM has one `start`, any number of `part`s and one `end`; a device
/// without iterations has one `full`.
public enum SectionKind: UInt8, Sendable, Hashable, Codable {
  case start = 1
  case part = 2
  case end = 3
  case full = 4
}
