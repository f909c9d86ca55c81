/// A way to move a guest: by QEMU alone in one of its ways, or through Godwit's agents.
public enum LabMethod: Sendable, Hashable {
  case rival(Rival)
  /// Godwit with the strategy of this name; the agent refuses one that it does not know.
  case strategy(String)

  /// QEMU by itself, over plain TCP between the hosts.
  public static let qemu = Self.rival(.precopy)
  public static let godwit = Self.strategy("precopy")

  /// All names, for a message.
  public static let names =
    (Rival.allCases.map(\.name) + ["godwit-STRATEGY"]).joined(separator: ", ")

  static let godwitPrefix = "godwit-"

  /// `qemu-xbzrle`, `godwit-precopy`.
  public var name: String {
    switch self {
    case .rival(let rival): rival.name
    case .strategy(let strategy): Self.godwitPrefix + strategy
    }
  }

  /// From a name as above; `qemu` and `godwit` alone mean pre-copy. Nil for a rival that does not exist.
  public init?(name: String) {
    if let rival = name == "qemu" ? .precopy : Rival(name: name) {
      self = .rival(rival)
    } else if name == "godwit" {
      self = .godwit
    } else if name.hasPrefix(Self.godwitPrefix), name.count > Self.godwitPrefix.count {
      self = .strategy(String(name.dropFirst(Self.godwitPrefix.count)))
    } else {
      return nil
    }
  }

  /// `method` of a result: `qemu` or `godwit`.
  var kind: String {
    switch self {
    case .rival: "qemu"
    case .strategy: "godwit"
    }
  }
}
