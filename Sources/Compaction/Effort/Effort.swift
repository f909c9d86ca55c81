public import Wire

/// How much processor time goes into making a batch small, from nothing upwards.
public enum Effort: UInt8, Sendable, CaseIterable, Comparable {
  /// Pages go as they are; nobody looks at them.
  case off
  case lz4
  case zstd1
  case zstd3
  case zstd6

  /// By how much processor time a batch takes.
  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }

  /// What such a batch is packed with at most; pages that don't get smaller go raw all the same.
  public var codec: PageCodec {
    switch self {
    case .off: .none
    case .lz4: .lz4
    case .zstd1, .zstd3, .zstd6: .zstd
    }
  }

  /// zstd's level; nil for what isn't zstd.
  var level: Int32? {
    switch self {
    case .off, .lz4: nil
    case .zstd1: 1
    case .zstd3: 3
    case .zstd6: 6
    }
  }
}
