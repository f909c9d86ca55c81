/// A way to move a guest: by QEMU alone in one of its ways, or through Godwit's agents; or a way to move a disk alone.
public enum LabMethod: Sendable, Hashable {
  case rival(Rival, tuning: String? = nil)
  /// Godwit with the strategy of this name; the agent refuses one that it does not know.
  case strategy(String, tuning: String? = nil)
  /// Of experiments with disks.
  case disk(DiskMethod, tuning: String? = nil)

  /// QEMU by itself, over plain TCP between the hosts.
  public static let qemu = Self.rival(.precopy)
  public static let godwit = Self.strategy("precopy")

  /// All names, for a message.
  public static let names =
    (Rival.allCases.map(\.name) + ["godwit-STRATEGY"]).joined(separator: ", ") + "; for disks "
    + DiskMethod.allCases.map(\.rawValue).joined(separator: ", ")

  public static let godwitPrefix = "godwit-"

  /// `qemu-xbzrle`, `godwit-precopy`, with a tuning of an experiment's file `qemu-xbzrle+NAME`; of a disk `iofollow`,
  /// `mirror+NAME`.
  public var name: String {
    let plain =
      switch self {
      case .rival(let rival, _): rival.name
      case .strategy(let strategy, _): Self.godwitPrefix + strategy
      case .disk(let method, _): method.rawValue
      }
    return tuning.map { "\(plain)+\($0)" } ?? plain
  }

  /// Name of the tuning; nil: as the lab has it.
  public var tuning: String? {
    switch self {
    case .rival(_, let tuning), .strategy(_, let tuning), .disk(_, let tuning): tuning
    }
  }

  /// Whether a disk is moved alone, without a guest.
  public var isOfDisks: Bool { if case .disk = self { true } else { false } }

  /// From a name as above; `qemu` and `godwit` alone mean pre-copy. Nil for a rival that does not exist.
  public init?(name whole: String) {
    let parts = whole.split(separator: "+", maxSplits: 1, omittingEmptySubsequences: false)
    let name = String(parts[0])
    let tuning = parts.count > 1 ? String(parts[1]) : nil
    if tuning?.isEmpty == true { return nil }
    if let method = DiskMethod(rawValue: name) {
      self = .disk(method, tuning: tuning)
    } else if let rival = name == "qemu" ? .precopy : Rival(name: name) {
      self = .rival(rival, tuning: tuning)
    } else if name == "godwit" {
      self = .strategy("precopy", tuning: tuning)
    } else if name.hasPrefix(Self.godwitPrefix), name.count > Self.godwitPrefix.count {
      self = .strategy(String(name.dropFirst(Self.godwitPrefix.count)), tuning: tuning)
    } else {
      return nil
    }
  }

  /// `method` of a result: `qemu` or `godwit`.
  var kind: String {
    switch self {
    case .rival: "qemu"
    case .strategy: "godwit"
    case .disk(let method, _): method.isRival ? "qemu" : "godwit"
    }
  }
}
