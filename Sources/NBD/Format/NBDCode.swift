/// Numbers that begin messages of the protocol (`doc/proto.md` of the NBD project, big endian).
enum NBDMagic {
  /// `NBDMAGIC`: the server speaks first.
  static let greeting: UInt64 = 0x4e42_444d_4147_4943
  /// `IHAVEOPT`: fixed newstyle, and each option of the client's.
  static let option: UInt64 = 0x4948_4156_454f_5054
  static let optionReply: UInt64 = 0x0003_e889_0455_65a9
  static let request: UInt32 = 0x2560_9513
  static let extendedRequest: UInt32 = 0x21e4_1c71
  static let simpleReply: UInt32 = 0x6744_6698
  static let structuredReply: UInt32 = 0x668e_33ef
  static let extendedReply: UInt32 = 0x6e8a_278c
}

/// What a client asks for before transmission.
public enum NBDOption: UInt32, Sendable, CaseIterable {
  case exportName = 1
  case abort = 2
  case list = 3
  case startTLS = 5
  case info = 6
  case go = 7
  case structuredReply = 8
  case listMetaContext = 9
  case setMetaContext = 10
  case extendedHeaders = 11
}

/// What a server answers to an option.
public struct OptionReply: RawRepresentable, Hashable, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  private init(error: UInt32) { rawValue = 1 << 31 | error }

  public static let ack = Self(rawValue: 1)
  public static let server = Self(rawValue: 2)
  public static let info = Self(rawValue: 3)
  public static let metaContext = Self(rawValue: 4)
  public static let unsupported = Self(error: 1)
  public static let policy = Self(error: 2)
  public static let invalid = Self(error: 3)
  public static let platform = Self(error: 4)
  public static let tlsRequired = Self(error: 5)
  public static let unknown = Self(error: 6)
  public static let shutdown = Self(error: 7)
  public static let blockSizeRequired = Self(error: 8)
  public static let tooBig = Self(error: 9)
  public static let extendedHeadersRequired = Self(error: 10)

  /// The highest bit is set.
  public var isError: Bool { rawValue >> 31 == 1 }
}

/// Kinds of information about an export, in an option's request and in the answer.
enum InfoKind {
  static let export: UInt16 = 0
  static let name: UInt16 = 1
  static let description: UInt16 = 2
  static let blockSize: UInt16 = 3
}

/// Kinds of chunks that an answer in transmission is made of.
enum ChunkKind {
  static let none: UInt16 = 0
  static let data: UInt16 = 1
  static let hole: UInt16 = 2
  static let status: UInt16 = 5
  static let statusExtended: UInt16 = 6
  static let error: UInt16 = 1 << 15 | 1
  static let errorOffset: UInt16 = 1 << 15 | 2
  /// In a chunk's flags: nothing follows for this request.
  static let done: UInt16 = 1
}

/// How transmission is framed; agreed on in the handshake.
public enum ReplyMode: UInt8, Sendable, Comparable, CaseIterable {
  case simple, structured, extended
  /// From the least to the most that can be said.
  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }

  /// Bytes of a request's header.
  public var requestByteCount: Int { self == .extended ? 32 : 28 }
}
