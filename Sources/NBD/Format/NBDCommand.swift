/// What a request asks for.
public enum NBDCommand: UInt16, Sendable, CaseIterable {
  case read = 0
  case write = 1
  /// The client leaves; has no answer.
  case disconnect = 2
  case flush = 3
  case trim = 4
  /// A hint that the range will be read.
  case cache = 5
  case writeZeroes = 6
  case blockStatus = 7
  case resize = 8

  /// Whether the command changes the export.
  public var isChange: Bool { self == .write || self == .trim || self == .writeZeroes }
}

/// Flags of a request.
public struct CommandFlags: OptionSet, Hashable, Sendable {
  public let rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  /// Durable before it is answered.
  public static let fua = Self(rawValue: 1 << 0)
  /// Zeros must have their space allocated.
  public static let noHole = Self(rawValue: 1 << 1)
  /// The data of a read come in one chunk.
  public static let doNotFragment = Self(rawValue: 1 << 2)
  /// Exactly one extent in an answer about status.
  public static let requestOne = Self(rawValue: 1 << 3)
  /// Zeros only if that is faster than writing them.
  public static let fastZero = Self(rawValue: 1 << 4)
  /// The length is that of a payload (extended headers only).
  public static let payloadLength = Self(rawValue: 1 << 5)
}

/// What a server says that an export can do.
public struct ExportFlags: OptionSet, Hashable, Sendable {
  public let rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  public static let hasFlags = Self(rawValue: 1 << 0)
  public static let readOnly = Self(rawValue: 1 << 1)
  public static let sendFlush = Self(rawValue: 1 << 2)
  public static let sendFUA = Self(rawValue: 1 << 3)
  public static let rotational = Self(rawValue: 1 << 4)
  public static let sendTrim = Self(rawValue: 1 << 5)
  public static let sendWriteZeroes = Self(rawValue: 1 << 6)
  public static let sendDoNotFragment = Self(rawValue: 1 << 7)
  /// A flush covers what was answered on every connection.
  public static let canMultiConnect = Self(rawValue: 1 << 8)
  public static let sendCache = Self(rawValue: 1 << 10)
  public static let sendFastZero = Self(rawValue: 1 << 11)
}

/// One request of a client's.
public struct NBDRequest: Hashable, Sendable {
  public var command: NBDCommand
  public var flags: CommandFlags
  /// Chosen by the client; comes back in the answer.
  public var cookie: UInt64
  /// The range, in bytes.
  public var offset, length: UInt64

  /// A command without a range (flush, disconnect) has offset and length 0.
  public init(
    _ command: NBDCommand, flags: CommandFlags = [], cookie: UInt64 = 0, offset: UInt64 = 0,
    length: UInt64 = 0
  ) {
    (self.command, self.flags, self.cookie) = (command, flags, cookie)
    (self.offset, self.length) = (offset, length)
  }
}
