/// An error that an answer carries; the numbers are the protocol's, which are Linux's.
public struct NBDError: RawRepresentable, Error, Hashable, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static let notPermitted = Self(rawValue: 1)
  public static let inputOutput = Self(rawValue: 5)
  public static let noMemory = Self(rawValue: 12)
  public static let invalid = Self(rawValue: 22)
  public static let noSpace = Self(rawValue: 28)
  public static let overflow = Self(rawValue: 75)
  public static let notSupported = Self(rawValue: 95)
  public static let shutdown = Self(rawValue: 108)

  /// What the protocol has for an `errno` of Linux; anything it doesn't know is an I/O error.
  public init(errno: Int32) {
    self =
      switch errno {
      case 1, 13, 30: .notPermitted  // EPERM, EACCES, EROFS
      case 12: .noMemory
      case 22: .invalid
      case 27, 28, 122: .noSpace  // EFBIG, ENOSPC, EDQUOT
      case 75: .overflow
      case 95: .notSupported
      case 108: .shutdown
      default: .inputOutput
      }
  }
}

extension NBDError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .notPermitted: "not permitted"
    case .inputOutput: "input/output error"
    case .noMemory: "no memory"
    case .invalid: "invalid argument"
    case .noSpace: "no space"
    case .overflow: "value too large"
    case .notSupported: "not supported"
    case .shutdown: "the server is shutting down"
    default: "error \(rawValue)"
    }
  }
}

/// Bounds of what is accepted from a peer.
public enum NBDLimits {
  /// The protocol's bound of a name, a description, a query or a message, in bytes.
  public static let stringBytesMax = 4096
  /// Data of one option that is looked at; longer ones are answered with `tooBig` and skipped.
  public static let optionBytesMax = 64 << 10
  /// All bytes of one handshake: room for the largest option that some client may send, once.
  public static let handshakeBytesMax: UInt64 = 40 << 20
  public static let optionsMax = 256
  /// Metadata contexts selected, or names in one answer.
  public static let contextsMax = 64
  /// Data of one read or write, in bytes: what clients take for granted.
  public static let payloadBytesMax: UInt64 = 32 << 20
  /// A refused write's data up to here are skipped; a longer one ends the connection.
  public static let skippedBytesMax: UInt64 = 64 << 20
  /// Extents in one answer about status.
  public static let extentsMax = 4096
  /// Separate ranges in which the data of one read may arrive.
  public static let fragmentsMax = 1024
}
