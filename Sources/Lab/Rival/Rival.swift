/// QEMU's own ways to move a guest, which Godwit is measured against.
public enum Rival: String, Sendable, CaseIterable {
  case precopy, autoconverge, xbzrle
  case multifdZstd = "multifd-zstd"
  /// Pre-copy for one pass over memory, then post-copy.
  case postcopy

  static let prefix = "qemu-"

  /// As people name it: `qemu-precopy`.
  public var name: String { Self.prefix + rawValue }

  public init?(name: String) {
    guard name.hasPrefix(Self.prefix) else { return nil }
    self.init(rawValue: String(name.dropFirst(Self.prefix.count)))
  }
}
